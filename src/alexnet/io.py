"""Reads and writes files that appear whole or not at all, and waits for locks. Nothing here imports torch."""

import csv
import glob
import io
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml
from filelock import FileLock, Timeout

from alexnet.errors import UserError, find_cause

TEMP_GLOB = ".*.part"  # what `replacing` writes in place of any file
Plain = TypeVar("Plain", list[str], dict[str, Any])


def is_remote(root: str) -> bool:
    """Returns whether an address is remote: s3://..., and local:FOLDER, which LitData treats as remote."""
    return re.match(r"\w+://|local:", root) is not None


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file; an empty one if the file is missing or holds something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_yaml(path: Path, kind: type[Plain]) -> Plain:
    """Returns the plain values in a file. Raises UserError if it cannot be read or does not hold a `kind`."""
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if not isinstance(found, kind):
            raise ValueError(f"not the {path.stem} of a run")
        return found
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from None


def temp_paths(path: Path) -> list[Path]:
    """Returns the temporary files that killed processes have left while they wrote `path`."""
    return list(path.parent.glob(f".{glob.escape(path.name)}.*.part"))


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Context manager that yields a temporary path and atomically renames it to `path` on success.

    So nobody ever reads half a file; of several processes that write at once, the last one's file remains.

    Raises:
        OSError: naming `path`, if it cannot be written: a full disk does not say in which file, and torch.save makes a
            RuntimeError of it.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        yield beside
        os.replace(beside, path)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink()
        found = find_cause(error, OSError) if isinstance(error, Exception) else None
        if found is not None:
            raise OSError(found.errno, found.strerror, str(path)) from error
        raise


def write(path: Path, text: str) -> None:
    """Writes a text file by `atomic_write`."""
    with atomic_write(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_csv(path: Path, keys: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a header and a row for each mapping, by `atomic_write`."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, keys)
    writer.writeheader()
    writer.writerows(rows)
    write(path, text.getvalue())


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, by `atomic_write`."""
    write(path, json.dumps(value, indent=2) + "\n")


def wait_for(lock: FileLock, what: str) -> None:
    """Acquires the lock, and logs what its holder is doing if that takes a while."""
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"another process {what}: waiting for it", flush=True)
        lock.acquire()
