"""make, as on a fresh machine. What needs the package index is tried with none."""

import sys
from pathlib import Path

from tests.conftest import program, slow


def test_help_lists_every_target() -> None:
    text = program("make").stdout
    for target in ("install", "train", "smoke", "test", "lint", "tensorboard", "clean"):
        assert target in text


@slow
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


@slow
def test_train_does_not_install_twice_and_says_what_is_next(tmp_path: Path) -> None:
    """With an environment of the test's own, which only passes on to this Python: nothing may be installed into it."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "venv" / "installed").touch()
    overrides = "experiment=smoke model.width=0.125 data.crop=99 model.lrn=false"
    arguments = f"{overrides} outputs={tmp_path}"
    done = program(
        "make", "--no-print-directory", "train", f"VENV={tmp_path / 'venv'}", "PYTHON=false", f"ARGS={arguments}"
    )
    assert "pip install" not in done.stdout
    lines = done.stdout.splitlines()
    assert any(line.startswith("test top-1 accuracy") for line in lines)
    run = next(line.split()[1] for line in lines if line.startswith("run "))
    assert Path(run).is_dir()
    same = f"experiment=smoke model.width=0.125 data.crop=99 outputs={tmp_path}"
    assert "--logdir" in lines[-3]
    assert lines[-2].endswith(f" train.py {same} model.lrn=true")
    assert lines[-1].endswith(f" train.py -m {same} model.lrn=true,false seed=1,2,3")
