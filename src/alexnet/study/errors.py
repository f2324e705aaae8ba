"""The one error of this package."""


class StudyError(ValueError):
    """A table, or a question about it, that cannot be answered as it stands. The text says what to change."""
