"""Checks where results are written, so that no file is replaced unless that was asked for."""

from collections.abc import Sequence
from pathlib import Path

from alexnet.errors import UserError


def check_new(path: Path, kinds: Sequence[str] = (), *, force: bool) -> None:
    """Raises UserError where a result cannot be written to `path`, a folder, or a file that ends in one of `kinds`."""
    if kinds and path.suffix.lower() not in kinds:
        raise UserError(f"--out={path}: must end in {' or '.join(kinds)}")
    if kinds and path.is_dir():
        raise UserError(f"{path}: exists already; --out names another")
    if path.exists() and not force:
        raise UserError(f"{path}: exists already; --force replaces it, and --out names another")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"{path}: cannot be made: {above} is no folder")
