"""What a run needs to be repeated and believed: where it came from, and files that appear whole."""

import json
import os
import platform
import subprocess
import sys
from datetime import datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent


def write(path: Path, text: str) -> None:
    """Writes beside and renames, so that nobody ever reads half a file."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def write_json(path: Path, value: Any) -> None:
    write(path, json.dumps(value, indent=2) + "\n")


def origin() -> dict[str, Any]:
    """The command, the code's state, the machine and every package's version, as plain values."""
    cuda = torch.cuda.is_available()
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if (status := _git("status", "--porcelain")) is None else bool(status),
        "python": platform.python_version(),
        "machine": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        },
        "packages": dict(sorted((d.metadata["Name"], d.version) for d in distributions())),
    }


def git_diff() -> str | None:
    """What the working tree holds beyond the commit: changed files, and the names of new ones."""
    changed, new = _git("diff", "HEAD"), _git("ls-files", "--others", "--exclude-standard")
    return "\n".join([*filter(None, [changed]), *(f"# not in git: {name}" for name in (new or "").split())]) or None


def _git(*arguments: str) -> str | None:
    """What git says of the folder this code lies in; None without git, or outside a repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout.rstrip()
    except (OSError, subprocess.SubprocessError):
        return None
