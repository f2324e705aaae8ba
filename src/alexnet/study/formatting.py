"""How seeds, times, numbers and tables are written."""

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
    header, rows = _cells(header), [_cells(row) for row in rows]
    widths = [max(3, *(len(row[i]) for row in (header, *rows))) for i in range(len(header))]
    right = [i > 0 and all(not row[i] or row[i][0] in "+-0123456789" for row in rows) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * (w - 1)}{':' if r else '-'}" for w, r in zip(widths, right, strict=True)]
    return [line(header), line(rule), *map(line, rows)]


def _cells(texts: Sequence[str]) -> list[str]:
    """Without what would end a cell or its row."""
    return [" ".join(text.replace("|", "\\|").split()) for text in texts]
