"""python evaluate.py RUN: against the run's own test, scikit-learn and float64."""

import csv
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_score, recall_score  # type: ignore[import-untyped]
from torchvision.transforms import TenCrop

from alexnet import load
from alexnet.data import ImageDataModule
from tests.conftest import ROOT, Once, digits, first, needs, program, quick, slow, train_py


@pytest.fixture(scope="module")
def evaluation(run: Path, once: Once) -> dict[str, Any]:
    def evaluate(path: Path) -> None:
        (path / "said").write_text(quick("evaluate.py", str(run), f"--out={path}/files").stdout)

    path = once("evaluation", evaluate)
    found = json.loads((path / "files" / "evaluation.json").read_text())
    return found | {"said": (path / "said").read_text(), "folder": path / "files"}


def test_it_is_the_runs_own_test(run: Path, evaluation: dict[str, Any]) -> None:
    """To the last digit."""
    assert evaluation["test"] == json.loads((run / "metrics.json").read_text())["test"]
    assert evaluation["as_in_training"] is True
    assert "the same figures as the run's own test" in evaluation["said"]
    assert evaluation["said"].startswith("AlexNet: lrn on, batch norm off, dropout 0.5, groups 2, ")
    assert {path.name for path in evaluation["folder"].iterdir()} == {
        "evaluation.json", "classes.csv", "confusion.png", "confusion.svg", "calibration.png", "calibration.svg",
        "mistakes.png", "mistakes.svg",
    }  # fmt: skip


@digits
@needs("model", "lenet")
@slow
@pytest.mark.parametrize("crops", [1, 10])
def test_in_lower_precision_too(crops: int, tmp_path: Path) -> None:
    """And with the crops of the run's own test."""
    run = tmp_path / "run"
    line = ("experiment=smoke", "model=lenet", "data=digits", "trainer.precision=bf16-mixed", "trainer.accelerator=cpu")
    train_py(*line, "trainer.limit_test_batches=1.0", f"test_crops={crops}", f"run_dir={run}")
    assert "the same figures" in quick("evaluate.py", str(run / "checkpoints" / "best.ckpt")).stdout
    assert json.loads((run / "evaluation" / "evaluation.json").read_text())["crops"] == crops


@slow
def test_a_run_of_before_there_were_crops(run: Path, tmp_path: Path) -> None:
    """Its own test had one."""
    old = tmp_path / "old"
    shutil.copytree(run, old)
    checkpoint = torch.load(old / "checkpoints" / "best.ckpt")
    del checkpoint["config"]["test_crops"]
    torch.save(checkpoint, old / "checkpoints" / "best.ckpt")
    assert "the same figures as the run's own test" in quick("evaluate.py", str(old)).stdout


def stored(run: Path) -> tuple[ImageDataModule, torch.Tensor, torch.Tensor]:
    """The test images (N, 1, 256, 256) of 0 to 255 in float64, and their labels."""
    data = ImageDataModule("digits", channels=1)
    data.setup()
    test = data.splits["test"]
    return data, torch.from_numpy(test.images[test.rows]).permute(0, 3, 1, 2), torch.from_numpy(test.labels)


def test_class_by_class_and_how_sure(run: Path, evaluation: dict[str, Any]) -> None:
    data, images, labels = stored(run)
    network = load(run).double()
    crop = images[..., 14:241, 14:241].double() / 255
    with torch.no_grad():
        scores = torch.cat([network((x - data.normalize.mean) / data.normalize.std) for x in crop.split(64)])
    sure, said = scores.softmax(1).max(1)
    assert np.array_equal(evaluation["confusion"], confusion_matrix(labels, said))
    recall, precision = (f(labels, said, average=None, zero_division=np.nan) for f in (recall_score, precision_score))
    with (evaluation["folder"] / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list("0123456789")
    for row, share, exact in zip(rows, recall, precision, strict=True):
        assert float(row["right"]) == pytest.approx(share)
        assert row["precision"] == "" if np.isnan(exact) else float(row["precision"]) == pytest.approx(exact)
    right, error = (said == labels).double(), 0.0
    for low in range(15):
        inside = (sure > low / 15) & (sure <= (low + 1) / 15)
        if inside.any():
            error += inside.sum().item() * abs(sure[inside].mean() - right[inside].mean()).item()
    assert evaluation["calibration"]["error"] == pytest.approx(error / len(labels), abs=1e-5)
    assert sum(each["pictures"] for each in evaluation["calibration"]["bins"]) == len(labels) == 269
    # Wilson's interval, by hand
    p, n, z = right.mean().item(), 269, 1.959964
    middle, half = p + z * z / 2 / n, z * (p * (1 - p) / n + z * z / 4 / n / n) ** 0.5
    expected = [(middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)]
    assert evaluation["top1_interval"] == pytest.approx(expected, abs=1e-6)


@slow
def test_ten_crops(run: Path, tmp_path: Path) -> None:
    """Against torchvision's windows and the mean softmax; the centre's odd pixel apart."""
    said = quick("evaluate.py", str(run), "crops=10", f"--out={tmp_path}/ten").stdout
    assert "269 test images of digits, 10 crops" in said
    assert "own test" not in said, "which had one crop"
    found = json.loads((tmp_path / "ten" / "evaluation.json").read_text())["test"]
    data, images, labels = stored(run)
    network, total = load(run), torch.zeros(len(labels), 10)
    for view in TenCrop(227)(images):
        with torch.no_grad():
            scores = [network((x / 255 - data.normalize.mean) / data.normalize.std) for x in view.split(64)]
        total += torch.cat(scores).softmax(1) / 10
    assert found["loss"] == pytest.approx(-total[range(len(labels)), labels].log().mean().item(), abs=1e-3)
    assert found["top1"] == pytest.approx((total.argmax(1) == labels).double().mean().item(), abs=0.012)


def test_other_images(run: Path, tmp_path: Path) -> None:
    """Of the same classes, normalised as those of the training were; of others they are refused."""
    draw = np.random.default_rng(0)
    for split, n in (("train", 1), ("test", 3)):
        for name in "0123456789":
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                Image.fromarray(draw.integers(0, 256, (300, 280), np.uint8)).save(folder / f"{i}.png")
    line = (str(run), "data=folder", f"data.root={tmp_path}/images", f"--out={tmp_path}/out")
    assert "30 test images of folder" in quick("evaluate.py", *line).stdout
    (tmp_path / "images" / "train" / "9").rename(tmp_path / "images" / "train" / "nine")
    (tmp_path / "images" / "test" / "9").rename(tmp_path / "images" / "test" / "nine")
    said = quick("evaluate.py", *line, "--force", code=1).stderr
    assert "nine" in said
    assert "Traceback" not in said


def test_mistakes(run: Path, evaluation: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("text")
    for arguments, message in (
        ([f"{tmp_path}/none"], "no such run or checkpoint"),
        ([str(tmp_path)], "no such file"),
        ([f"{tmp_path}/text.ckpt"], "not a checkpoint that can be read safely"),
        ([str(run), "crops=7"], "crops=7: must be 1 (the centre), 5"),
        ([str(run), "data.crop=200"], "data.crop=200: the checkpoint says this itself, data.crop=227"),
        ([str(run), "model.lrn=false"], "model.lrn: no such key"),
        ([str(run), "data.rot=x"], "data.rot: no such key. Did you mean data.root?"),
        ([str(run), "data.num_workers=-1"], "data.num_workers=-1: must be a whole number"),
        ([str(run), "data=mnits"], "data.source=mnits: must be one of"),
        ([str(run), f"--out={evaluation['folder']}"], "exists already; --force replaces"),
    ):
        done = quick("evaluate.py", *arguments, code=1)
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not list(run.glob("evaluation*"))


def image_tree(root: Path, counts: dict[str, int]) -> Path:
    """So many images of each of ten classes in each of the folders; "" is the root itself."""
    draw = np.random.default_rng(0)
    for split, n in counts.items():
        for name in "0123456789":
            place = root / split / name
            place.mkdir(parents=True, exist_ok=True)
            for i in range(n):
                Image.fromarray(draw.integers(0, 256, (30, 30), np.uint8)).save(place / f"{i}.png")
    return root


@first(1)
@pytest.mark.parametrize(("counts", "tested"), [({"": 4}, 40), ({"test": 2}, 20), ({"train": 3, "Testing": 1}, 10)])
def test_all_new_images_are_tested(run: Path, counts: dict[str, int], tested: int, tmp_path: Path) -> None:
    root = image_tree(tmp_path / "new", counts)
    for line in (("data=folder",), ("data=folder", "data.value_range=255")):
        quick("evaluate.py", str(run), *line, f"data.root={root}", f"--out={tmp_path}/out", "--force")
        found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
        assert found["data"]["pictures"] == tested


@pytest.fixture(scope="module")
def folder_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a folder with train/ alone, whose name is given from another working directory."""
    base = tmp_path_factory.mktemp("folder")
    image_tree(base / "images", {"train": 20})
    root = os.path.relpath(base / "images", ROOT)
    line = ("experiment=smoke", "model.width=0.0625", "data=folder", "panels=none", "data.size=80", "data.crop=67")
    train_py(*line, "data.channels=1", f"data.root={root}", f"run_dir={base}/run", "trainer.limit_test_batches=1.0")
    return base / "run"


@slow
def test_a_run_is_evaluated_from_another_directory(folder_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere"
    path.mkdir()
    done = program(sys.executable, str(ROOT / "evaluate.py"), str(folder_run), f"--out={path}/out", cwd=path)
    assert json.loads((path / "out" / "evaluation.json").read_text())["as_in_training"] is True, done.stdout


@slow
def test_images_that_have_moved_are_split_as_in_training(folder_run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(folder_run.parent / "images", moved)
    for root, images in ((moved, 30), (image_tree(tmp_path / "new", {"": 4}), 40)):
        quick("evaluate.py", str(folder_run), f"data.root={root}", f"--out={tmp_path}/out", "--force")
        assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["data"]["pictures"] == images
    image = next(moved.rglob("*.png"))
    line = ("predict.py", str(folder_run), str(image), "--neighbours")
    quick(*line, f"data.root={moved}")
    assert "data.root" in quick(*line, f"data.root={tmp_path}/new", code=1).stderr
