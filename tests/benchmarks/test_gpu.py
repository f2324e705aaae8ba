"""The GPU's part, on the CPU with tiny sizes."""

import torch

from alexnet.benchmarks import gpu
from tests.conftest import slow


@slow
def test_every_figure_is_measured() -> None:
    cpu = torch.device("cpu")
    rows = list(gpu.measure(cpu, batches=(2, 4), images=8, width=1 / 16, matrix=64, rounds=1, compiled=False))
    parts = ("step", "lrn", "run", "prefetch", "on_device")
    assert [row.name for row in rows] == [f"gpu_{part}_{batch}" for batch in (2, 4) for part in parts]
    assert all(row.ours > 0 and row.baseline > 0 and row.limit_share > 0 for row in rows)
    said = gpu.projection(rows)
    assert len(said) == 2
    hours = 90 * 1_281_167 / rows[2].ours / 3600
    assert said[0].startswith(f"batches of 2: 90 epochs of ImageNet in {hours:.1f} hours")
