"""Names of earlier versions, which run directories and checkpoints made by them still have. Does not import torch."""

from collections.abc import Mapping
from typing import Any

RENAMED_TARGETS = {
    "alexnet.data.PictureData": "alexnet.data.ImageDataModule",
    "alexnet.pictures.panels.panels": "alexnet.visualization.panels.panels",
    "alexnet.studies.progress.Progress": "alexnet.sweeps.progress.Progress",
    "alexnet.studies.progress.Report": "alexnet.sweeps.progress.Report",
    "alexnet.sweep.SweepFolder": "alexnet.sweeps.callbacks.SweepFolder",
    "alexnet.training.callbacks.GradientNorms": "alexnet.diagnostics.gradients.GradientNorms",
    "alexnet.training.curves.CSVLogger": "alexnet.training.loggers.CSVLogger",
    "alexnet.training.lrn_spread.LrnSpread": "alexnet.diagnostics.lrn_spread.LrnSpread",
    "alexnet.training.optim.by_hand": "alexnet.recipes.krizhevsky2012.by_hand",
}
_EARLIER = {new: old for old, new in RENAMED_TARGETS.items()}


def upgrade(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a recorded config, plain values by group, with the names of today."""
    upgraded: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            upgraded[key] = upgrade(value)
        elif key == "_target_" and isinstance(value, str):
            upgraded[key] = RENAMED_TARGETS.get(value, value)
        else:
            upgraded[key] = value
    return upgraded


def earlier_target(target: Any) -> Any:
    """Returns the name that a `_target_` had first. The digest of a run's settings is made with it, so that a study of
    an earlier version is found again.
    """
    return _EARLIER.get(target, target)
