"""docs/make-it-yours.md, done: in a copy of the repository, with another name, less, and more."""

import ast
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests import forked
from tests.conftest import ROOT, has, program, slow

PAGE = (ROOT / "docs" / "make-it-yours.md").read_text()
LINES = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.S) for line in block.splitlines()]
FILES = re.findall(r"`((?:conf|src)/[\w./]+)`[^`\n]*:\n\n```(?:python|yaml)\n(.*?)```", PAGE, re.S)
OPTIONAL_PACKAGES: dict[str, list[str]] = {}  # what to delete of each
for line in LINES:
    if line.startswith("rm -r "):
        first = line.split()[2]
        if re.fullmatch(r"src/alexnet/\w+", first):
            OPTIONAL_PACKAGES[first.rpartition("/")[2]] = []
        OPTIONAL_PACKAGES[[*OPTIONAL_PACKAGES][-1]] += line.split()[2:]
TINY = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1")
TINY += ("trainer.limit_test_batches=1", "data.batch_size=8", "trainer.accelerator=cpu")
NOT_COPIED = (".git", ".venv", "outputs", "__pycache__", ".*_cache", "*.egg-info", "build", "*.png")

Python = Callable[..., str]

pytestmark = pytest.mark.skipif(not all(map(has, OPTIONAL_PACKAGES)), reason="it is yours already")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT, tmp_path / "copy", ignore=shutil.ignore_patterns(*NOT_COPIED))
    return tmp_path / "copy"


@pytest.fixture(scope="module")
def python() -> Iterator[Python]:
    """`python(copy, ARGUMENTS...)` runs in the copy, with its own package, and gives what was said."""
    with forked.for_copies() as run:

        def said(copy: Path, *arguments: str) -> str:
            env = {**os.environ, "PYTHONPATH": str(copy / "src")}
            done = run(*arguments, timeout=300, env=env, cwd=copy)
            assert done.returncode == 0, f"{done.stdout}{done.stderr}"
            return done.stdout

        yield said


def trains(python: Python, copy: Path) -> None:
    said = python(copy, "train.py", "experiment=smoke", "model.width=0.125", f"outputs={copy}/out")
    assert "test top-1 accuracy" in said
    assert "tests" in python(copy, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider").splitlines()[-1]


@slow
def test_another_name(python: Python, copy: Path) -> None:
    """make rename, in a repository as a clone is one."""
    (rename,) = (line for line in LINES if line.startswith("make rename"))
    for command in ("git init -q", "git add -A", rename):
        program(*shlex.split(command), cwd=copy)
    assert not (copy / "src" / "alexnet").exists()
    left = subprocess.run(
        [
            "git",
            "grep",
            "-nE",
            r"(from|_target_:|source =|project:|experiment_name:) alexnet\b|src/alexnet|ALEXNET_CACHE",
            "--",
            ":!Makefile",
        ],
        cwd=copy,
        capture_output=True,
        text=True,
    )
    assert left.stdout == ""
    trains(python, copy)
    python(copy, "-m", "pytest", "-p", "no:cacheprovider", "tests/models/test_lenet.py", "tests/test_rng.py")


def test_the_page_names_every_optional_package() -> None:
    assert set(re.findall(r"^\| (\w+) \|", PAGE, re.M)) - {"package"} == set(OPTIONAL_PACKAGES)


@pytest.mark.parametrize("package", OPTIONAL_PACKAGES)
def test_nothing_else_imports_an_optional_package(package: str) -> None:
    """But within a function, which asks whether it is there."""
    gone = [ROOT / path for path in OPTIONAL_PACKAGES[package]]
    assert all(path.exists() for path in gone)
    left = [path for path in (*ROOT.glob("*.py"), *(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py"))
            if not any(path.is_relative_to(one) for one in gone)]  # fmt: skip
    assert len(left) > 100
    for path in left:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                above = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                names = [f"{above}{name.name}" for name in node.names]
                assert not any(re.match(rf"(alexnet|tests)\.{package}\b", name) for name in names), path


@slow
def test_all_optional_packages_come_off(python: Python, copy: Path) -> None:
    for path in [copy / path for paths in OPTIONAL_PACKAGES.values() for path in paths]:
        if path.exists():  # of two packages
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    trains(python, copy)


@slow
def test_everything_comes_off(python: Python, copy: Path) -> None:
    """Every line of the page that deletes, one after the other; some of the tests that are left."""
    lines = [line for line in LINES if line.startswith(("rm ", "perl "))]
    assert len(lines) == 16
    for line in [*lines, "rm -r tests/docs"]:
        program("bash", "-ec", line, cwd=copy)
    assert "source: fake\n" in python(copy, "train.py", "--cfg", "job", "--package", "data")
    trains(python, copy)
    tests = ("tests/test_architecture.py", "tests/test_compat.py", "tests/test_command_line.py", "tests/models")
    python(copy, "-m", "pytest", "-q", "-n", "0", "-m", "not slow", "-p", "no:cacheprovider", *tests)


@slow
def test_more(python: Python, copy: Path) -> None:
    """A network, a question, and one of each group. Every line of the page trains."""
    assert len(FILES) > 8
    assert max(len(text.splitlines()) for path, text in FILES if "models" not in path) <= 60
    for path, text in FILES:
        assert not (copy / path).exists()
        (copy / path).write_text(text)
    (copy / "scans").mkdir()
    for i in range(40):
        np.save(copy / "scans" / f"{('healthy', 'ill')[i % 2]}_{i}.npy", np.full((30, 30), 5 * i, np.uint8))
    rows = ["path,cars,people"]
    for i in range(40):
        Image.new("RGB", (30, 30), (5 * i, 0, 0)).save(copy / f"{i}.png")
        rows.append(f"{i}.png,{i % 4},{i % 3}")
    (copy / "counts.csv").write_text("\n".join(rows))
    lines = [line for line in LINES if line.startswith("python train.py")]
    assert len(lines) == 9
    for number, line in enumerate(lines):
        arguments = [*shlex.split(line)[1:], *TINY, f"outputs={copy}/out{number}"]
        python(copy, *arguments, *(["seed=7", "study.jobs=1"] if "study=" in line else ["panels=none"]))
    runs = {n: sorted((copy / f"out{n}").rglob("config.yaml")) for n in range(9)}
    assert [len(found) for found in runs.values()] == [1, 3, 1, 1, 1, 1, 1, 1, 1]
    last = yaml.safe_load(runs[8][0].read_text())
    kinds = {"model": "ResNet", "optimizer": "RMSprop", "scheduler": "OneCycleLR", "augment": "Cutout"}
    assert {group: last[group]["_target_"].rpartition(".")[2] for group in kinds} == kinds
    assert "val/recall" in (runs[2][0].parent / "metrics.csv").read_text()
    python(copy, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_config.py", "-k", "rmsprop or resnet or cutout")
