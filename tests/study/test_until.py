"""Epochs until a figure is reached, compared as ratios."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from alexnet.errors import UserError
from alexnet.study.metrics import EpochsToTarget
from alexnet.study_adapter.metrics import run_metric
from alexnet.study_adapter.report import report
from tests.study.fakes import fake_run


@pytest.mark.parametrize(
    ("curve", "epochs"),
    [
        ([0.5, 0.7, 0.8], 2.5),  # half way from the second to the third
        ([0.5, 0.75, 0.9], 2),
        ([0.9, 0.95], 1),
        ([0.2, 0.8, 0.1, 0.9], 1 + 0.55 / 0.6),  # the first time
        ([0.1, 0.74], math.nan),
        ([], math.nan),
    ],
)
def test_epochs_by_hand(curve: list[float], epochs: float) -> None:
    assert EpochsToTarget("train/top1>=0.75").epochs(curve) == pytest.approx(epochs, nan_ok=True)


def test_a_loss_falls() -> None:
    assert EpochsToTarget("val/loss<=0.75").epochs([2.0, 1.0, 0.5]) == pytest.approx(2.5)


def test_what_is_such_a_metric() -> None:
    assert isinstance(run_metric("train/top1>=0.75"), EpochsToTarget)
    assert isinstance(run_metric("val/loss<=1"), EpochsToTarget)
    assert not isinstance(run_metric("test/top1"), EpochsToTarget)
    for other in ("test/top1>=0.75", "train/top1>0.75", "train/top1>=x", "", "train/top1>=0.75 ", 3, None):
        with pytest.raises(ValueError, match="metric="):
            run_metric(other)


def learnt(folder: Path, seed: int, arm: str, epochs: list[float]) -> None:
    """A run whose training accuracy was so by epoch."""
    fake_run(folder, seed, np.ones(50, bool), arm, model__activation=arm)
    with (folder / "metrics.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "train/top1"])
        writer.writerows(enumerate(epochs))


def test_the_report_says_how_many_times_as_many(tmp_path: Path) -> None:
    took = {"relu": [2.0, 2.5, 2.2], "tanh": [6.0, 7.0, 7.1]}
    for arm, each in took.items():
        for seed, epochs in enumerate(each):
            reached = math.ceil(epochs)
            curve = [0.1] * (reached - 1) + [0.1 + 0.65 / (epochs - reached + 1)]
            learnt(tmp_path / f"{arm}{seed}", seed, arm, curve)
    out, said = report([tmp_path], metric="train/top1>=0.75", margin=1.5)
    ratios = np.log2(np.array(took["tanh"]) / np.array(took["relu"]))
    half = stats.t.ppf(0.975, 2) * ratios.std(ddof=1) / 3**0.5
    low, mean, high = (2**x for x in (ratios.mean() - half, ratios.mean(), ratios.mean() + half))
    assert said.startswith(
        f"tanh takes {mean:.3g} times the epochs of relu until train/top1>=0.75 ({low:.2f} to {high:.2f})."
    )
    text = (out / "report.md").read_text()
    assert "| epochs until train/top1>=0.75 |" in text
    assert f"{np.prod(took['relu']) ** (1 / 3):.1f}" in text, "the mean of ratios is geometric"
    assert "3.00x 2.80x 3.23x" in text
    assert "margin of 1.5 times" in text
    assert "no better than chance" not in text
    assert "(curves.png)" in text
    assert "95% intervals for new seeds, paired by seed" in text


def test_a_run_that_never_got_there_is_said_to_be_one(tmp_path: Path) -> None:
    for seed in range(4):
        learnt(tmp_path / f"relu{seed}", seed, "relu", [0.2, 0.9 - 0.01 * seed])
        learnt(tmp_path / f"tanh{seed}", seed, "tanh", [0.2, 0.3, 0.4] if seed == 2 else [0.2, 0.3, 0.9 - 0.03 * seed])
    _, said = report([tmp_path], metric="train/top1>=0.75")
    assert "tanh never reached train/top1>=0.75: seed 2 in 3 epochs (censored)" in said
    assert "relu: seed 2 left out, which not all arms have finished" in said


def test_mistakes(tmp_path: Path) -> None:
    learnt(tmp_path / "run", 0, "relu", [0.2])
    with pytest.raises(UserError, match=r"metric=train/top1>0.75: must be .*such as train/top1>=0.75"):
        report([tmp_path], metric="train/top1>0.75")
    with pytest.raises(UserError, match=r"margin=0.5: must be .* 1"):
        report([tmp_path], metric="train/top1>=0.75", margin=0.5)
    with pytest.raises(UserError, match="none of the 1 finished runs has such a metric"):
        report([tmp_path], metric="train/top1>=0.75")
