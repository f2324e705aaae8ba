"""Reads and writes files that are there whole or not at all."""

import json
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary path in the same folder, and renames it to `path` when that returns.

    Raises:
        OSError: naming `path`; a full disk does not say in which file.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        write(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="surrogateescape"))


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file; an empty one if the file is missing or holds something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
