"""Formats seeds, times, numbers and tables."""

from collections.abc import Sequence


def seeds_of(seeds: Sequence[int]) -> str:
    """Returns 'seed 1' or 'seeds 1, 2'."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def duration(seconds: float) -> str:
    """Returns 40 s, 12 min or 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a Markdown table, which reads well on a terminal too: numbers are aligned to the right."""
    columns = []
    for number, cells in enumerate(zip(*map(_cells, (header, *rows)), strict=True)):
        width = max(3, *map(len, cells))
        if number > 0 and all(map(_is_number, cells[1:])):
            columns.append([cells[0].rjust(width), "-" * (width - 1) + ":", *(cell.rjust(width) for cell in cells[1:])])
        else:
            columns.append([cells[0].ljust(width), "-" * width, *(cell.ljust(width) for cell in cells[1:])])
    return [f"| {' | '.join(cells)} |" for cells in zip(*columns, strict=True)]


def _is_number(cell: str) -> bool:
    """Returns whether a cell is empty or begins like a number."""
    return not cell or cell[0] in "+-0123456789"


def _cells(texts: Sequence[str]) -> list[str]:
    """Returns the cells without characters that would end a cell or its row."""
    return [" ".join(text.replace("|", "\\|").split()) for text in texts]
