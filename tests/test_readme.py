"""Every command of the README runs, made small."""

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

from tests.conftest import ROOT, digits, has, program, quick, slow, tensorboard, train_py

README = (ROOT / "README.md").read_text()
LINES = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if not line.startswith("#") and (not line.startswith("python") or (ROOT / line.split()[1]).exists())
    if "study=" not in line or has("study")
]
SMALL = ("model.width=0.125", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1")
SMALL += ("trainer.limit_test_batches=1",)


def test_the_commands_were_found() -> None:
    assert len(LINES) > 12
    assert {shlex.split(line)[0] for line in LINES} == {"make", "python", "tensorboard", "torchrun", "srun"}


# Many processes cost seconds each: training/test_ranks.py has them, with torchrun and SLURM.
ALONE = [line for line in LINES if line.startswith("python train.py") and not re.search("devices=|launcher=", line)]
ELSEWHERE = ("study=parts", "seed=1,2,3,4,5,6")  # study/test_study.py and test_progress.py
ALONE = [line for line in ALONE if not any(argument in line for argument in ELSEWHERE)]
MARKS = {" -m ": slow, "init_from=outputs/digits": digits}
ALONE = [pytest.param(line, marks=[mark for part, mark in MARKS.items() if part in line]) for line in ALONE]


@pytest.mark.parametrize("line", ALONE)
def test_train_lines(line: str, smoke: Path, image_folder: Path, tmp_path: Path) -> None:
    line = re.sub(r"init_from=\S+", f"init_from={smoke}", line)
    arguments = [
        argument.replace("data.root=monkeys", f"data.root={image_folder}") for argument in shlex.split(line)[2:]
    ]
    if "data=stream" in arguments:
        quick("prepare.py", "data=folder", f"data.root={image_folder}", f"stream={image_folder}-stream")
    study = next((argument for argument in arguments if argument.startswith("study=")), None)
    runs = 2 if study else 6 if "model.lrn=true,false" in arguments else 1
    runs = 3 if "hydra/sweeper=search" in arguments else runs
    small = [*SMALL, "seed=7"] if study else SMALL
    done = train_py(*arguments, *small, f"outputs={tmp_path / 'outputs'}")
    if not {"--help", "--cfg"} & set(arguments):
        assert len(list((tmp_path / "outputs").rglob("metrics.json"))) == runs
        assert done.stdout.count(": test/top1 0." if study else "test top-1 accuracy") == runs
        assert ("report.md" in done.stdout) == (runs > 1 and has("study"))


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("python report.py")])
def test_report_lines(line: str, tmp_path: Path) -> None:
    from tests.study.fakes import fake_run

    for seed in range(3):
        fake_run(tmp_path / str(seed), seed, np.arange(100) < 90 + seed)
    *command, folder = shlex.split(line)[1:]
    assert folder == "outputs/study/lrn-digits-alexnet"
    assert quick(*command, str(tmp_path)).stdout.splitlines()[-1] == f"report {tmp_path}/report.md"


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("python prepare.py")])
def test_prepare_lines(line: str, image_folder: Path, tmp_path: Path) -> None:
    if "show=true" in line and not has("visualization"):
        pytest.skip("visualization is gone")
    arguments = shlex.split(line.replace("monkeys", str(image_folder)))[2:]
    said = quick("prepare.py", *arguments, f"outputs={tmp_path}").stdout
    assert ("sheet " if "show=true" in arguments else "stream ") in said


@pytest.mark.parametrize("line", [line for line in LINES if re.match("python (evaluate|predict|export)", line)])
def test_lines_that_use_a_run(line: str, smoke: Path, tmp_path: Path) -> None:
    """With another image for those of the README; other images of its classes are in inference/test_evaluate.py."""
    image = tmp_path / "cat.jpg"
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(image)
    _, entry_point, run, *rest = shlex.split(line.replace("predictions.png", f"{tmp_path}/predictions.png"))
    assert run.startswith("outputs/digits-alexnet/")
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
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.S)
    assert len(block.splitlines()) == 4
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "monkeys.yaml").write_text(block.replace("root: monkeys", f"root: {image_folder}"))
    said = quick("prepare.py", "--config-dir", str(tmp_path), "data=monkeys").stdout
    assert "2 classes: n0, n1" in said
    assert "stored  128x128x3" in said
