"""make, as on a fresh machine. What needs the package index is tried with none."""

import os
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, program

INSTALLED = Path(sys.prefix) / "installed"


def test_help_lists_every_target() -> None:
    text = program("make").stdout
    for target in ("install", "train", "smoke", "test", "lint", "tensorboard", "clean"):
        assert target in text


def test_a_failed_install_is_begun_again(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    for _ in range(2):
        done = program("make", "install", f"VENV={venv}", code=2, PIP_NO_INDEX="1", PIP_FIND_LINKS="")
        assert "pip install" in done.stdout, "the second make must not believe that the first one finished"
        assert not (venv / "installed").exists()


def test_an_old_python_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9); $2"\n')
    old.chmod(0o755)
    done = program("make", "install", f"VENV={tmp_path / 'venv'}", f"PYTHON={old}", code=2)
    assert "is Python 3.9; 3.11 or newer is needed" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.skipif(not INSTALLED.exists(), reason="this Python was not installed by make")
def test_train_does_not_install_twice_and_says_what_is_next(tmp_path: Path) -> None:
    arguments = f"experiment=smoke outputs={tmp_path}"
    done = program("make", "train", f"VENV={os.path.relpath(sys.prefix, ROOT)}", f"ARGS={arguments}")
    assert "pip install" not in done.stdout
    lines = done.stdout.splitlines()
    assert any(line.startswith("test top-1 accuracy") for line in lines)
    run = next(line.split()[1] for line in lines if line.startswith("run "))
    assert Path(run).is_dir()
    following = [line for line in lines if "train.py model.lrn=false" in line or "--logdir" in line or " -m " in line]
    assert len(following) == 3
