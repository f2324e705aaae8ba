"""How much LRN does, beside the formula; in a run, and in what a report says of it."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.diagnostics.lrn_spread import factors
from alexnet.models.lrn import LocalResponseNorm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_by_the_formula(dtype: torch.dtype) -> None:
    x = (10 * torch.randn(4, 8, 5, 5, generator=torch.Generator().manual_seed(1))).relu().to(dtype)
    layer = LocalResponseNorm(5, alpha=1e-3, beta=0.75, k=2, window="own", divide_alpha=False)
    a = x.double().numpy()
    window = np.array([3, 4, 5, 5, 5, 5, 4, 3])[:, None, None]  # cut off at the first and last channel
    expected = ((2 + 1e-3 * window * a**2) ** -0.75)[a > 0]
    assert factors(layer, x).numpy() == pytest.approx(expected, rel=1e-4)
    assert factors(LocalResponseNorm(5, alpha=0, k=2), x).numpy() == pytest.approx(2**-0.75)


def test_every_run_logs_it(smoke: Path) -> None:
    """Of both layers, in each epoch."""
    rows = list(csv.DictReader((smoke / "metrics.csv").open()))
    for layer in ("norm1", "norm2"):
        found = [float(row[f"lrn_spread/features.{layer}"]) for row in rows if row[f"lrn_spread/features.{layer}"]]
        assert len(found) == 2
        assert np.all(np.array(found) > 0)


def test_every_run_says_it(smoke: Path) -> None:
    """Of the smoke run's small inputs: 2**-0.75, whatever comes in."""
    (line,) = (line for line in (smoke / "train.log").read_text().splitlines() if "LRN's factors" in line)
    assert re.search(r"norm1 0\.59\d, spread 0\.\d\d%; norm2 0\.59\d, spread 0\.\d\d%\. Close to constants$", line)
