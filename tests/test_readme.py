"""Every command of the README runs, made small."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, program, train_py

README = (ROOT / "README.md").read_text()
LINES = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.S)
    for line in block.splitlines()
]
SMALL = ("model.width=0.125", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1")
SMALL += ("trainer.limit_test_batches=1",)


def test_the_commands_were_found() -> None:
    assert len(LINES) > 12
    assert {shlex.split(line)[0] for line in LINES} == {"make", "python", "tensorboard"}


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("python train.py")])
def test_train_lines(line: str, pictures: Path, tmp_path: Path) -> None:
    arguments = [argument.replace("data.root=monkeys", f"data.root={pictures}") for argument in shlex.split(line)[2:]]
    done = train_py(*arguments, *SMALL, f"outputs={tmp_path / 'outputs'}")
    if not {"--help", "--cfg"} & set(arguments):
        runs = 6 if "-m" in arguments else 1
        assert len(list((tmp_path / "outputs").rglob("metrics.json"))) == runs
        assert done.stdout.count("test top-1 accuracy") == runs


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("make")])
def test_make_lines(line: str) -> None:
    assert program(*shlex.split(line), "--dry-run").stdout


def test_the_tensorboard_line() -> None:
    tensorboard = Path(sys.executable).with_name("tensorboard")
    assert (
        "--logdir"
        in program(str(tensorboard) if tensorboard.exists() else shutil.which("tensorboard"), "--help").stdout
    )


def test_links_and_files_are_there() -> None:
    for name in [*re.findall(r"\]\(([^)#:]+)\)", README), "CONTRIBUTING.md", "LICENSE"]:
        assert (ROOT / name).exists(), name


def test_python_block() -> None:
    assert all(compile(block, "README", "exec") for block in re.findall(r"```python\n(.*?)```", README, re.S))
