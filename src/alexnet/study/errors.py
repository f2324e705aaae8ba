"""The error that this package raises."""


class StudyError(ValueError):
    """A table, or a question about it, that cannot be answered as it is. The text says what to change."""
