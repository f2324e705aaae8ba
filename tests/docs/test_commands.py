"""Every command of the README and of the pages for users runs, made small."""

import json
import re
import shlex
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import ROOT, digits, has, options, program, quick, slow, tensorboard, train_py

PAGES = ("README", *(f"docs/{name}" for name in ("training", "data", "study", "distributed", "runs", "inference")))
BLOCKS = {page: re.findall(r"```bash\n(.*?)```", (ROOT / f"{page}.md").read_text(), re.S) for page in PAGES}
README = (ROOT / "README.md").read_text()
SMALL = ("model.width=0.125", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1")
SMALL += ("trainer.limit_test_batches=1",)
# `make test` runs these; the nightly tests run all others, and compose those of docs/: test_pages.py.
FAST = (
    *(
        "python train.py model=lenet data=digits model.activation=relu",
        "python train.py experiment=smoke",
        "python train.py --help",
    ),
    *("python train.py data=folder data.root=monkeys", "python predict.py RUN photos --json"),
)
# Many processes cost seconds each: training/test_ranks.py has them, with torchrun and SLURM, training/test_resume.py
# resume=, and study/ the studies.
ELSEWHERE = r"devices=|launcher=|resume=|study=parts|seed=1,2,3,4,5,6"


def lines_of(*pages: str) -> list[str]:
    lines = [line.split("#")[0].strip() for page in pages for block in BLOCKS[page] for line in block.splitlines()]
    known = [line for line in lines if line and (has("study") or "study=" not in line)]
    return [line for line in known if not line.startswith("python") or (ROOT / line.split()[1]).exists()]


LINES = list(dict.fromkeys(lines_of(*PAGES)))


def cases(pattern: str) -> list[Any]:
    """The lines that match, each a case, slow unless it is one of FAST."""
    lines = [line for line in LINES if re.match(pattern, line) and not re.search(ELSEWHERE, line)]
    return [pytest.param(line, marks=[] if line in FAST else [slow]) for line in lines]


def test_the_commands_were_found() -> None:
    assert len(LINES) > 30
    assert {shlex.split(line)[0] for line in LINES} == {"make", "python", "tensorboard", "torchrun", "srun"}
    assert set(FAST) <= set(LINES)


def test_the_readme_is_read_in_two_minutes() -> None:
    assert len(README.splitlines()) <= 170


def listed(folder: Path, column: str, pattern: str) -> Path:
    """A CSV file of 24 images, whose column has what `pattern` makes paths of."""
    file = folder.with_name(f"{column}.csv")
    images = file.parent / "images"
    images.mkdir(exist_ok=True)
    rows = [f"{column},label,height,tags"]
    for i in range(24):
        path = images / f"{i}.png"
        Image.new("RGB", (30, 30), (10 * i, 0, 0)).save(path)
        name = f"images/{i}.png" if pattern == "{}" else i
        rows.append(f"{name},{'ab'[i % 2]},{i / 3},{('x y', 'y')[i % 2]}")
    file.write_text("\n".join(rows))
    return file


@pytest.mark.parametrize("line", cases("python train.py"))
def test_train_lines(line: str, smoke: Path, image_folder: Path, tmp_path: Path) -> None:
    if "init_from=RUN" in line and "digits" not in options("data"):
        pytest.skip("the digits are gone")
    roots = {"monkeys": image_folder, "labels.csv": listed(image_folder, "path", "{}"),
             "train.csv": listed(image_folder, "id", "images/{}.png")}  # fmt: skip
    arguments = [word.replace("=RUN", f"={smoke}") for word in shlex.split(line)[2:]]
    for name, root in roots.items():
        arguments = [word.replace(f"data.root={name}", f"data.root={root}") for word in arguments]
    if "data=stream" in arguments:
        quick("prepare.py", "data=folder", f"data.root={image_folder}", f"stream={image_folder}-stream")
    study = next((argument for argument in arguments if argument.startswith("study=")), None)
    arms, first_look = (3, 5) if study == "study=lrn" else (2, 3)
    runs = arms if study else 6 if "model.lrn=true,false" in arguments else 1
    runs = 3 if {"hydra/sweeper=search", "search=lr"} & set(arguments) else runs
    small = [] if "reproduce=" in line else [*SMALL, "seed=7"] if study else SMALL
    if "study.until=answered" in arguments:
        arguments, small, runs = [*arguments, f"study.max_seeds={first_look}"], [*SMALL], first_look * arms
    small = [*small, "study.jobs=1"] if study else small
    small = [word for word in small if not ("lenet" in line and "width" in word)]
    if "experiment=laptop" in arguments:
        arguments += ["data=digits"]
    done = train_py(*arguments, *small, f"outputs={tmp_path / 'outputs'}")
    if not {"--help", "--cfg"} & set(arguments):
        assert len(list((tmp_path / "outputs").rglob("metrics.json"))) == runs
        assert done.stdout.count(": test/top1 0." if study else " s of training, ") == runs
        assert ("report.md" in done.stdout) == (runs > 1 and has("study"))


@pytest.mark.parametrize("line", cases("python report.py"))
def test_report_lines(line: str, tmp_path: Path) -> None:
    from tests.study.fakes import fake_run

    for seed in range(3):
        fake_run(tmp_path / str(seed), seed, np.arange(100) < 90 + seed)
    *command, folder = shlex.split(line)[1:]
    assert folder == "outputs/study/lrn-digits-alexnet"
    assert quick(*command, str(tmp_path)).stdout.splitlines()[-1] == f"report {tmp_path}/report.md"


@pytest.mark.parametrize("line", cases("python prepare.py"))
def test_prepare_lines(line: str, image_folder: Path, tmp_path: Path) -> None:
    if "show=true" in line and not has("visualization"):
        pytest.skip("visualization is gone")
    arguments = shlex.split(line.replace("monkeys", str(image_folder)))[2:]
    said = quick("prepare.py", *arguments, f"outputs={tmp_path}").stdout
    assert ("sheet " if "show=true" in arguments else "stream ") in said


@pytest.mark.parametrize("line", cases("python (evaluate|predict|export)"))
def test_lines_that_use_a_run(line: str, smoke: Path, tmp_path: Path) -> None:
    """With another image for those of the pages; other images of its classes are in inference/test_evaluate.py."""
    image = tmp_path / "cat.jpg"
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(image)
    _, entry_point, run, *rest = shlex.split(line.replace("predictions.png", f"{tmp_path}/predictions.png"))
    assert run == "RUN"
    words = [word for word in rest if not word.startswith("data")]
    words = [str(image) if word in ("cat.jpg", "dogs/", "photos") else word for word in words]
    words += [] if entry_point == "predict.py" else [f"--out={tmp_path}/out"]
    assert quick(entry_point, str(smoke), *words).stdout


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("make")])
def test_make_lines(line: str) -> None:
    assert program(*shlex.split(line), "--dry-run").stdout


def test_the_tensorboard_line(smoke: Path) -> None:
    (line,) = [line for line in LINES if line.startswith("tensorboard")]
    arguments = shlex.split(line.replace("outputs", str(smoke.parent.parent)))[1:]
    with tensorboard(*arguments) as address:
        tags: dict[str, Any] = {}
        for _ in range(100):
            with urllib.request.urlopen(f"{address}data/plugin/scalars/tags") as answer:
                tags = json.load(answer)
            if any("val/top1" in run for run in tags.values()):
                break
            time.sleep(0.2)
        (run,) = tags.values()
        assert "val/top1" in run


@digits
def test_python_block(smoke: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    names: dict[str, Any] = {}
    exec(re.sub(r'"outputs/[^"]*"', repr(str(smoke)), block), names)
    assert names["network"](torch.zeros(1, 1, 227, 227)).shape == (1, 10)


def test_yaml_block(image_folder: Path, tmp_path: Path) -> None:
    """As a file of a folder beside conf/, which it could as well lie in."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "data.md").read_text(), re.S)
    assert len(block.splitlines()) == 4
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "monkeys.yaml").write_text(block.replace("root: monkeys", f"root: {image_folder}"))
    said = quick("prepare.py", "--config-dir", str(tmp_path), "data=monkeys").stdout
    assert "2 classes: n0, n1" in said
    assert "stored  128x128x3" in said
