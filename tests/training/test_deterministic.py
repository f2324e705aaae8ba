"""The same settings and seed give the same result, wherever and after whatever a run comes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import SMOKE, Once, first, train_py
from tests.training.test_resume import same

LINE = (*SMOKE, "trainer.max_epochs=1", "augment.rescale=0.5", "model.dropout=0.5", "logger=none", "after=none")


def result(run: Path) -> dict[str, Any]:
    metrics = json.loads((run / "metrics.json").read_text())
    return {key: value for key, value in metrics.items() if key not in ("seconds", "images_per_second")}


@pytest.fixture
def alone(once: Once) -> dict[str, Any]:
    """Of seed 1, in a process of its own."""
    return result(once("alone", lambda path: train_py(*LINE, f"run_dir={path}/run")) / "run")


@first(1)
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_twice_with_any_number_of_workers(workers: int, alone: dict[str, Any], tmp_path: Path) -> None:
    train_py(*LINE, f"data.num_workers={workers}", f"run_dir={tmp_path}/run")
    assert result(tmp_path / "run") == alone


@first(1)
@pytest.mark.parametrize(
    "how",
    [
        ("trainer.accelerator=cpu", "data.on_device=true"),
        ("trainer.accelerator=cpu", "data.on_device=true", "augment.rescale=0.5", "data.num_workers=1"),
        pytest.param(("data.on_device=true",), marks=pytest.mark.gpu),
        pytest.param(("data.on_device=false", "data.prefetch=true"), marks=pytest.mark.gpu),
        pytest.param(("data.on_device=false", "data.prefetch=true", "data.num_workers=2"), marks=pytest.mark.gpu),
    ],
)
def test_wherever_the_images_are_cut(how: tuple[str, ...], tmp_path: Path) -> None:
    """Every weight bit for bit, and the test of five crops."""
    kept = [argument for argument in how if argument.startswith(("augment", "trainer"))]
    line = (*SMOKE, "trainer=exact", "augment=paper", "test_crops=5", "logger=none", "trainer.max_epochs=1")

    def weights(*arguments: str) -> dict[str, Any]:
        train_py(*line, *arguments, f"run_dir={tmp_path}/{len(list(tmp_path.iterdir()))}")
        return torch.load(max(tmp_path.glob("*/checkpoints/last.ckpt")), weights_only=True)["state_dict"]

    plain, ours = weights("data.on_device=false", "data.prefetch=false", *kept), weights(*how)
    assert same(plain, ours)
    assert result(tmp_path / "0") == result(tmp_path / "1")


@first(1)
@pytest.mark.parametrize("seeds", [(1, 2), (2, 1, 3), (3, 2, 1)])
def test_as_any_job_of_a_sweep(seeds: tuple[int, ...], alone: dict[str, Any], tmp_path: Path) -> None:
    train_py("-m", *LINE, f"seed={','.join(map(str, seeds))}", f"outputs={tmp_path}")
    (run,) = tmp_path.glob("*/*/seed=1")
    assert result(run) == alone
    assert all(result(other) != alone for other in run.parent.glob("seed=[23]"))
