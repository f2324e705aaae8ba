"""How every figure is written, and names in it."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from alexnet.checks import short
from alexnet.folders import replacing


def save(figure: Figure, path: Path) -> None:
    """path.png and path.svg."""
    for kind in ("png", "svg"):
        write(figure, path.with_name(f"{path.name}.{kind}"))


def write(figure: Figure, path: Path) -> None:
    """In the format that the name says. The same figures make the same files."""
    kind = path.suffix[1:].lower()
    meta = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with matplotlib.rc_context({"svg.hashsalt": "alexnet"}), replacing(path) as beside:
        figure.savefig(beside, format=kind, dpi=150, bbox_inches="tight", metadata=meta)


def plain(name: str, length: int = 20) -> str:
    """Short, and nothing that matplotlib takes for mathematics."""
    return short(name, length).replace("$", r"\$")
