"""Names of earlier versions, which older run directories and checkpoints still have. Does not import torch."""

from collections.abc import Mapping
from typing import Any

RENAMED_TARGETS = {
    "alexnet.data.PictureData": "alexnet.data.ImageDataModule",
    "alexnet.pictures.panels.panels": "alexnet.visualization.panels.panels",
    "alexnet.studies.progress.Progress": "alexnet.sweeps.progress.Progress",
    "alexnet.studies.progress.Report": "alexnet.sweeps.progress.ReportCallback",
    "alexnet.sweep.SweepFolder": "alexnet.sweeps.callbacks.SweepDirectory",
    "alexnet.training.callbacks.GradientNorms": "alexnet.diagnostics.gradients.GradientNorms",
    "alexnet.training.curves.CSVLogger": "alexnet.training.loggers.CSVLogger",
    "alexnet.training.lrn_spread.LrnSpread": "alexnet.diagnostics.lrn_spread.LrnSpread",
    "alexnet.training.optim.by_hand": "alexnet.recipes.krizhevsky2012.piecewise",
}
# Keys of the config. The old spelling is an alias until 1.0, with a note when it is used.
RENAMED_KEYS = {
    "crops": "test_crops",
    "data.workers": "data.num_workers",
    "folder": "run_dir",
    "lr_times": "lr_multipliers",
    "optimizer.bias_lr": "optimizer.bias_lr_multiplier",
    "weights": "init_from",
}
_EARLIER_TARGETS = {new: old for old, new in RENAMED_TARGETS.items()}
_EARLIER_KEYS = {new: old for old, new in RENAMED_KEYS.items()}


def upgrade(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a recorded config, plain values by group, with today's names."""
    upgraded: dict[str, Any] = {}
    for key, value in config.items():
        full_key = f"{prefix}{key}"
        name = RENAMED_KEYS.get(full_key, full_key).removeprefix(prefix)
        if isinstance(value, Mapping):
            upgraded[name] = upgrade(value, f"{full_key}.")
        elif key == "_target_" and isinstance(value, str):
            upgraded[name] = RENAMED_TARGETS.get(value, value)
        else:
            upgraded[name] = value
    return upgraded


def upgrade_override(override: str) -> str:
    """Returns an override of the command line, such as +lr_times.fc8=2, with today's key."""
    sign, key, rest = _split_override(override)
    for old, new in RENAMED_KEYS.items():
        if key == old or key.startswith(f"{old}."):
            return f"{sign}{new}{key.removeprefix(old)}{rest}"
    return override


def _split_override(override: str) -> tuple[str, str, str]:
    key, equals, value = override.partition("=")
    name = key.lstrip("+~")
    return key.removesuffix(name), name, equals + value


def upgrade_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a run.json, or a job of study.json, with today's keys."""
    upgraded = dict(record)
    if "asked" in upgraded:
        upgraded["config_digest"] = upgraded.pop("asked")
    if "arm" in upgraded:
        upgraded["arm"] = upgrade_arm(upgraded["arm"])
    return upgraded


def upgrade_arm(name: str) -> str:
    """Returns the name of an arm, such as crops=10, with today's keys."""
    return ",".join(map(upgrade_override, name.split(",")))


def earlier_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings by full key, with the names that keys and targets had in the first version.

    The digest of a run's settings is made with them, so that a study of an earlier version is found again.
    """
    earlier = {}
    for key, value in settings.items():
        first_key = key
        for new, old in _EARLIER_KEYS.items():
            if key == new or key.startswith(f"{new}."):
                first_key = old + key.removeprefix(new)
        earlier[first_key] = _EARLIER_TARGETS.get(value, value) if key.endswith("_target_") else value
    return earlier
