from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet.benchmarks.data import measure, measure_large
from tests.conftest import slow


@slow
@pytest.mark.parametrize("given", [True, False])
def test_every_part_is_measured(given: bool, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(draw.integers(0, 256, (300, 280 + i, 3), dtype=np.uint8)).save(tmp_path / f"{i}.jpg")
    rows = list(measure(tmp_path if given else None, count=150, least=100, rounds=1))
    loaders = [f"loader_{part}" for part in ("crops", "batches", "stream", "unpacked")]
    assert [row.name for row in rows] == [*loaders, "cifar_batches", "packing"]
    assert all(row.ours > 0 and row.baseline > 0 for row in rows)


@slow
def test_large_photographs_are_measured() -> None:
    rows = list(measure_large(None, count=12, size=(800, 600), rounds=1))
    assert [row.name for row in rows] == ["large_whole", "large_scaled", "large_packing_scaled"]
    assert all(row.ours > 0 and row.baseline > 0 for row in rows)
