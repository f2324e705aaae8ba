"""Decides which keys of a config affect a run's result. Nothing here imports torch."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from alexnet.compat import earlier_names

# The one table of keys that do not decide a result. Where images lie is left to their fingerprint, and which weights a
# run starts from to their SHA-256.
CAUSE = ("study", "reproduce", "resume")  # what a run was started by
PLACES = ("outputs", "run_dir", "data.root", "data.source.root", "data.cache_dir")  # folders of one machine
SHOWN = (  # what only looks on
    *("logger", "panels", "callbacks.gradients", "callbacks.lrn"),
    *("headline", "print_config", "tags", "task_name"),
)
WORK = (  # how it is done: however that is, the result is the same to rounding
    *("checkpoint_every", "keep_memory", "trusted", "data.num_workers", "data.on_device", "data.prefetch"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.log_every_n_steps"),
    *("trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.use_distributed_sampler"),
)
IGNORED_KEYS = (*CAUSE, *PLACES, *SHOWN, *WORK)
PATHS = (*PLACES, "init_from", "reproduce", "resume")  # keys whose value is a path
# What a run that is repeated, or resumed, has from its command line and not from its record.
OF_TODAY = (
    "outputs",
    "run_dir",
    "data.cache_dir",
    "reproduce",
    "resume",
    "checkpoint_every",
    "trusted",
    "print_config",
)
# Keys of later versions, with the value that does what versions before them did where no image is affected: a run
# without the key has the same settings as one with this value.
ADDED = {
    "test_epoch": "best",
    "weight_decays": None,
    "data.background": "white",
    "data.value_range": None,
    "data.scaled_decoding": False,
    "data.test_fraction": None,
    "data.mean": None,
    "data.std": None,
    "data.sampler": "shuffle",
    "model.channels": [32, 32, 64],
    "model.batch_norm": False,
    "augment.rand_augment": 0.0,
    "augment.rand_augment_magnitude": 9.0,
    "augment.erase": 0.0,
    "task._target_": "alexnet.training.tasks.ImageClassifier",
    "loss._target_": "alexnet.training.losses.CrossEntropy",
    "loss.label_smoothing": 0.0,
    "loss.class_weights": None,
}


def result_affecting(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Returns every key that affects the result, such as `model.lrn`, with its value. Numbers are floats."""
    if isinstance(config, DictConfig):
        config = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    return {
        key: value for key, value in flat(config) if affects_result(key) and not (key in ADDED and ADDED[key] == value)
    }


def digest(config: DictConfig | Mapping[str, Any]) -> str:
    """Returns a digest of the settings that affect a result, by which runs with the same settings are found."""
    text = json.dumps(earlier_names(result_affecting(config)), sort_keys=True, default=str)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Returns the keys in which two runs' settings differ, in the config's order."""
    missing = object()
    return [key for key in {**a, **b} if a.get(key, missing) != b.get(key, missing)]


def format_value(value: Any) -> str:
    """Returns a setting's value as it is typed: true, 0.5, 2, null."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def flat(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every value of a nested mapping with its full key, such as `model.lrn`. Whole numbers are floats."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}{key}.")
        else:
            number = isinstance(value, int) and not isinstance(value, bool)
            yield f"{path}{key}", float(value) if number else value


def affects_result(key: str) -> bool:
    """Returns whether a setting affects a result."""
    return not any(key == left or key.startswith(f"{left}.") for left in IGNORED_KEYS)


def portable_command(words: Iterable[str]) -> list[str]:
    """Returns a command's words without the folders and loggers of one machine; images and weights are in FOLDER."""
    shown = {key: f"{key}=FOLDER" for key in ("data.root", "init_from")}
    kept = []
    for word in words:
        key = word.partition("=")[0]
        if key in shown:
            kept.append(shown[key])
        elif key not in PLACES and key.split(".")[0] != "logger":
            kept.append(word)
    return kept
