"""Runs that nobody trained, with figures that are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from alexnet.study.intervals import Difference, two_way

STUDY = {
    "question": "Does it help?", "claim": "it does", "source": "section 1",
    "paper": {"imagenet": {"lrn=false": -0.014}}, "metric": "test/top1", "margin": 0.01, "arms": None, "arm": None,
}  # fmt: skip


def fake_run(
    folder: Path, seed: int, right: NDArray[np.bool_], arm: str = "", state: str = "done", **changes: Any
) -> Path:
    """Writes a run that had these of its test images right. changes: of the config, as model__lrn=False, or of
    run.json, as record__reason="boom".
    """
    folder.mkdir(parents=True)
    config: dict[str, Any] = {
        "seed": seed, "monitor": "val/top1", "model": {"lrn": True, "dropout": 0.5},
        "trainer": {"precision": "32-true"},
        "data": {"source": "digits", "num_classes": 10, "seed": seed}, "study": None,
    }  # fmt: skip
    record: dict[str, Any] = {
        "state": state, "arm": arm, "config_digest": f"{arm}/{seed}", "started": f"2026-01-01T00:00:{seed:02}",
        "git_commit": "abc", "machine": {"threads": 2, "gpus": []},
        "data": {"source": "digits", "fingerprint": "f", "pictures": {"test": len(right)}},
    }  # fmt: skip
    values = {"loss": 1 - right.mean(), "top1": right.mean(), "top5": 1.0}
    metrics: dict[str, Any] = {
        "train": values, "val": values, "test": values, "monitor": "val/top1", "best_epoch": 2, "epochs": 3,
        "parameters": 1000, "flops_per_image": 2_000_000, "seconds": 10.0, "images_per_second": 50.0, "seed": seed,
    }  # fmt: skip
    for key, value in changes.items():
        part, _, name = key.partition("__")
        target = {"record": record, "metrics": metrics}.get(part)
        if target is not None:
            target[name] = value
        elif name:
            config[part][name] = value
        else:
            config[part] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "run.json").write_text(json.dumps(record))
    if state == "done":
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "metrics.csv").write_text("epoch,val/top1\n0,0.5\n1,0.7\n2,0.9\n")
        np.savez(
            folder / "test_right.npz", pictures=len(right), top1=np.packbits(right), top5=np.packbits(right | True)
        )
    return folder


def two_way_of(change: NDArray[np.integer[Any]], spread: tuple[float, float] | None = None) -> Difference:
    """change: (seeds, images), right(arm) - right(baseline)."""
    return two_way(change @ change.T, change.sum(1), change.shape[1], spread)


def images(draw: np.random.Generator, seeds: int, count: int, *shares: float, spread: float = 0.1) -> np.ndarray:
    """Right or wrong, (arms, seeds, images), an arm for each share that is right on average."""
    from scipy import stats

    score = draw.normal(0, 1, (1, 1, count)) + draw.normal(0, spread, (len(shares), seeds, 1))
    score = score + draw.normal(0, 0.1, (1, seeds, 1)) + draw.normal(0, 0.5, (len(shares), seeds, count))
    total = (1 + spread**2 + 0.1**2 + 0.5**2) ** 0.5
    return score + total * stats.norm.ppf(np.array(shares))[:, None, None] > 0
