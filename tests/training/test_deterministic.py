"""The same settings and seed give the same result, wherever and after whatever a run comes."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SMOKE, Once, train_py

LINE = (*SMOKE, "trainer.max_epochs=1", "augment.rescale=0.5", "model.dropout=0.5", "logger=none", "after=none")


def result(run: Path) -> dict[str, Any]:
    metrics = json.loads((run / "metrics.json").read_text())
    return {key: value for key, value in metrics.items() if key not in ("seconds", "images_per_second")}


@pytest.fixture
def alone(once: Once) -> dict[str, Any]:
    """Of seed 1, in a process of its own."""
    return result(once("alone", lambda path: train_py(*LINE, f"folder={path}/run")) / "run")


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_twice_with_any_number_of_workers(workers: int, alone: dict[str, Any], tmp_path: Path) -> None:
    train_py(*LINE, f"data.workers={workers}", f"folder={tmp_path}/run")
    assert result(tmp_path / "run") == alone


@pytest.mark.parametrize("seeds", [(1, 2), (2, 1, 3), (3, 2, 1)])
def test_as_any_job_of_a_sweep(seeds: tuple[int, ...], alone: dict[str, Any], tmp_path: Path) -> None:
    train_py("-m", *LINE, f"seed={','.join(map(str, seeds))}", f"outputs={tmp_path}")
    (run,) = tmp_path.glob("*/*/seed=1")
    assert result(run) == alone
    assert all(result(other) != alone for other in run.parent.glob("seed=[23]"))
