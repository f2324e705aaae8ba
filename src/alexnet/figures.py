"""How every figure is written: as PNG and SVG."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure


def save(figure: Figure, path: Path) -> None:
    """path.png and path.svg. The same figures make the same files."""
    for kind in ("png", "svg"):
        with matplotlib.rc_context({"svg.hashsalt": "alexnet"}):
            meta = {"Date": None} if kind == "svg" else {}
            figure.savefig(path.with_name(f"{path.name}.{kind}"), dpi=150, bbox_inches="tight", metadata=meta)
