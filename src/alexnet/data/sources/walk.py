"""Finds the image files below a folder, and counts what else lies there."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from alexnet.data.decode import is_image
from alexnet.errors import escape_control_chars

SYSTEM_FILES = {"__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini"}


@dataclass
class LeftOut:
    """Counts the files that are not read by their kind, each kind with an example."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, entry: "os.DirEntry[str]", kind: str | None = None) -> None:
        """Counts a file. kind: what it is; None: what its extension says."""
        kind = kind or Path(entry.name).suffix.lower() or "without extension"
        if entry.is_symlink() and not os.path.exists(entry.path):
            kind = "links that lead nowhere"
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.examples.setdefault(kind, entry.path)

    def __str__(self) -> str:
        kinds = sorted(self.counts, key=lambda kind: -self.counts[kind])
        return ", ".join(
            f"{self.counts[kind]} {kind} (such as {escape_control_chars(self.examples[kind])})" for kind in kinds
        )


def is_ignored(name: str) -> bool:
    """Returns whether a path is hidden (.ipynb_checkpoints, macOS's ._0.jpg) or left by the operating system."""
    return name.startswith(".") or name in SYSTEM_FILES


def subfolders(folder: Path) -> list[Path]:
    """Returns the folders in a folder, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if not is_ignored(entry.name) and entry.is_dir())


def walk(folder: Path, left_out: LeftOut | None = None, above: tuple[str, ...] = ()) -> Iterator["os.DirEntry[str]"]:
    """Yields the image files below `folder`. Follows links, except those that lead back to a folder above.

    Other files are counted in `left_out`; hidden ones are passed over.
    """
    here = os.path.realpath(folder)
    if here in above or not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_ignored(entry.name):
                continue
            if entry.is_dir():
                yield from walk(Path(entry.path), left_out, (*above, here))
            elif entry.is_file() and is_image(entry.path):
                yield entry
            elif left_out is not None:
                left_out.add(entry)
