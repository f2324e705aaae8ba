"""What TensorBoard is given, read back as TensorBoard reads it."""

import io
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from alexnet import load
from alexnet.data import ImageDataModule
from alexnet.training.run import train
from alexnet.visualization.filters import grid
from alexnet.visualization.panels import panels
from alexnet.visualization.sheet import GAP
from alexnet.visualization.sheet import LINE as LETTERS
from alexnet.visualization.top_losses import SIDE, sheet
from tests.conftest import SMOKE, Once, digits, slow, tensorboard, train_py
from tests.training.test_run import TINY

DRAWN = {"train/augmented", "conv1_filters", "val/confusion_matrix", "val/per_class_accuracy", "val/top_losses"}
LINE = (*SMOKE, "panels=all", "trainer.limit_val_batches=1.0", "trainer.precision=32-true", "trainer.accelerator=cpu")


@pytest.fixture(scope="module")
def run(once: Once) -> Path:
    return once("panels", lambda path: train_py(*LINE, "trainer.limit_test_batches=3", f"run_dir={path}/run")) / "run"


@pytest.fixture(scope="module")
def board(run: Path) -> Any:
    return EventAccumulator(str(run), size_guidance={"images": 0, "histograms": 0, "scalars": 0}).Reload()


def image(board: Any, tag: str, at: int = -1) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(board.Images(tag)[at].encoded_image_string)))


@slow
def test_every_panel_is_there(board: Any, run: Path) -> None:
    tags = board.Tags()
    assert set(tags["images"]) == DRAWN
    assert tags["graph"]
    assert "memory_gb" in tags["scalars"]
    assert (run / "projector_config.pbtxt").is_file()


def test_the_filters_at_the_start_and_of_the_best_epoch(board: Any, run: Path) -> None:
    """The image's squares are the weights, zero in the middle."""
    steps = [event.step for event in board.Images("conv1_filters")]
    best = json.loads((run / "metrics.json").read_text())["best_epoch"]
    assert [steps[0], steps[-1]] == [0, 4 * best]
    weights: Any = load(run).get_submodule("features.conv1").weight.detach()
    shown = image(board, "conv1_filters")
    side, times = weights.shape[-1], 7
    for i, filter in enumerate(weights[:8]):
        left = 3 + i * (side * times + 3)
        found = shown[3 : 3 + side * times : times, left : left + side * times : times].transpose(2, 0, 1)
        expected = 127.5 + 127.5 * filter / filter.abs().max()
        assert np.abs(found - expected.numpy()).max() <= 1


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_filters_of_any_depth(channels: int) -> None:
    shown = grid(torch.randn(7, channels, 5, 5))
    assert shown.dtype == torch.uint8
    assert shown.shape == (3, 3 + 80 + 3, 3 + 7 * (80 + 3))
    assert grid(torch.zeros(2, 1, 40, 40)).shape == (3, 86, 169)


def test_updates_and_dead_units(board: Any) -> None:
    """Of a first step they are near the rate times the gradient over the weights."""
    tags = board.Tags()["scalars"]
    ratios = sorted(tag for tag in tags if tag.startswith("update_to_weight/"))
    assert ratios[0] == "update_to_weight/01_features.conv1"
    assert [tag.split("/")[1] for tag in ratios] == sorted(t.split("/")[1] for t in tags if t.startswith("gradients/"))
    for tag in ratios:
        assert all(0 < event.value < 1 for event in board.Scalars(tag))
    dead = [tag for tag in tags if tag.startswith("dead_units/")]
    assert dead == [f"dead_units/{name}" for name in (tag.split("/")[1] for tag in board.Tags()["histograms"])]
    assert len(dead) == 7
    assert all(0 <= event.value <= 1 for tag in dead for event in board.Scalars(tag))


def test_an_update_by_hand(tmp_path: Path) -> None:
    """One step of plain SGD without decay: lr |g| / |w|. Of large layers a sample is looked at."""
    line = ("trainer.max_epochs=1", "trainer.limit_train_batches=1", "optimizer=sgd", "optimizer.weight_decay=0")
    line += ("scheduler=constant", "optimizer.lr=0.02", "optimizer.momentum=0", "logger=csv")
    train_py(*LINE, *line, f"run_dir={tmp_path}/run", f"logger.csv.save_dir={tmp_path}/csv")
    header, *rows = (next((tmp_path / "csv").rglob("metrics.csv"))).read_text().splitlines()
    values = {k: float(v) for row in rows for k, v in zip(header.split(","), row.split(","), strict=True) if v}
    ratios = {k.split("/")[1]: v for k, v in values.items() if k.startswith("update_to_weight/")}
    network = load(tmp_path / "run")
    assert len(ratios) == 8
    for name, ratio in ratios.items():
        weights: Any = network.get_submodule(name[3:]).weight
        expected = 0.02 * values[f"gradients/{name}"] / weights.norm().item()
        assert ratio == pytest.approx(expected, rel=0.05), name


def test_the_confusion_and_the_worst(run: Path, board: Any) -> None:
    """What is drawn is of the right size; its counts are checked through the module below."""
    assert image(board, "val/confusion_matrix").shape[2] in (3, 4)
    shown = image(board, "val/top_losses")
    assert np.ptp(shown) > 100


@pytest.mark.parametrize("tag", sorted(DRAWN))
def test_a_panel_can_be_read_where_tensorboard_shows_it(board: Any, tag: str) -> None:
    """350 pixels wide: of twice as many, letters of 22 pixels are 11 pixels high."""
    assert image(board, tag).shape[1] == pytest.approx(700, abs=60)


def test_a_sheet_of_mistakes() -> None:
    """Each image in its place, and no text over another's."""
    colours = torch.rand(9, 3, 1, 1)
    drawn = sheet([c.expand(3, 20, 20) for c in colours], [("a" * 40, "b" * 40, " 99%")] * 9)
    height = 2 * LETTERS + SIDE + GAP
    assert drawn.shape == (LETTERS + 3 * height, 4 * (SIDE + GAP) - GAP, 3)
    for i, colour in enumerate(colours):
        left, top = i % 4 * (SIDE + GAP), LETTERS + i // 4 * height
        shown = drawn[top + 2 * LETTERS : top + height - GAP, left : left + SIDE]
        assert np.abs(shown - 255 * colour[:, 0, 0].numpy()).max() <= 1
        assert (drawn[top : top + 2 * LETTERS, left + SIDE : left + SIDE + GAP] == 255).all()
        assert drawn[top : top + 2 * LETTERS, left : left + SIDE].min() < 128


@digits
def test_the_projector(run: Path) -> None:
    """The 24 test images, with the distances that the last hidden layer has between them."""
    rows = np.loadtxt(next((run / "projector").rglob("tensors.tsv")))
    labels = next((run / "projector").rglob("metadata.tsv")).read_text().split()
    data = ImageDataModule("digits", channels=1, batch_size=8)
    data.setup()
    test = data.splits["test"]
    assert labels == [str(label) for label in test.labels[:24]]
    network, hidden = load(run), []
    last: Any = network.get_submodule("classifier.fc8")
    last.register_forward_pre_hook(lambda _, given: hidden.append(given[0].detach()))
    images = torch.from_numpy(test.images[test.rows[:24], 14:241, 14:241]).permute(0, 3, 1, 2)
    network(data.preprocess(images))
    found, expected = torch.cdist(torch.from_numpy(rows), torch.from_numpy(rows)), torch.cdist(hidden[0], hidden[0])
    assert found.numpy() == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-3)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_as_a_browser_shows_it(run: Path) -> None:
    """Every image and every layer has its card on TensorBoard's first page, graph and projector have their tabs."""
    with tensorboard(f"--logdir={run}") as address:
        assert CHROMIUM
        look = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000"]
        page = ""
        for _ in range(10):  # it reads the run while it serves
            dump = [*look, "--dump-dom", f"{address}#timeseries"]
            page = subprocess.run(dump, capture_output=True, text=True, timeout=120, check=True).stdout
            if "conv1_filters" in page and "PROJECTOR" in page.upper():
                break
            time.sleep(1)
        groups = dict(re.findall(r'title="(\w+)">\w+</span><span [^>]*>(\d+) cards', page))
        assert int(groups["val"]) >= 3, "beside the curves"
        assert groups["activations"] == groups["dead_units"] == "7"
        assert groups["update_to_weight"] == groups["gradients"] == "8"
        for tab in ("Graphs", "HParams", "Projector"):
            assert tab.upper() in page.upper()


class PartlyCompiled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(67 * 67 * 3, 10)
        self.double = torch.compile(lambda x: 2 * x, backend="eager")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.double(self.fc(x.flatten(1)))


def test_a_network_that_cannot_be_traced_is_trained(config: Callable[..., DictConfig], tmp_path: Path) -> None:
    words = [word for word in TINY if not word.startswith(("model", "logger"))]
    cfg = config(*words, "panels=all", f"outputs={tmp_path}")
    cfg.trusted = ["tests"]
    cfg.model = OmegaConf.create({"_target_": "tests.visualization.test_panels.PartlyCompiled"})
    train(cfg)
    run = Path(cfg.run_dir)
    assert "WARNING panels.graph: " in (run / "train.log").read_text()
    tags = EventAccumulator(str(run)).Reload().Tags()
    assert not tags["graph"]
    assert "val/confusion_matrix" in tags["images"]


@slow
def test_each_has_a_switch(tmp_path: Path) -> None:
    """And none costs a folder or a figure where there is no TensorBoard."""
    names = ("inputs", "filters", "confusion", "mistakes", "updates", "activations", "memory", "graph", "projector")
    for name in names:
        assert len(panels(**{name: False})) == len(names) - 1
        with pytest.raises(ValueError, match=f"{name}=2: must be true or false"):
            panels(**{name: 2})  # type: ignore[arg-type]
    said = train_py(*LINE, "panels.filters=yes please", code=1).stderr
    assert "error: panels.filters=yes please: must be true or false" in said
    assert "Did you mean panels.filters?" in train_py(*LINE, "panels.filter=false", code=1).stderr
    run = tmp_path / "run"
    train_py(*LINE, *(f"panels.{name}=false" for name in names), f"run_dir={run}")
    tags = EventAccumulator(str(run)).Reload().Tags()
    assert not tags["images"]
    assert not tags["graph"]
    assert not (run / "projector").exists()
    plain = tmp_path / "plain"
    train_py(*LINE, "logger=none", f"run_dir={plain}")
    assert not list(plain.glob("events*"))
