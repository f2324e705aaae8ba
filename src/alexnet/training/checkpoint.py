"""How a network comes back out of a checkpoint."""

import pickle
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from alexnet.checks import UserError

PREFIX = "network."  # ImageClassifier.network
TRUSTED = ("alexnet", "torch", "torchvision")


def load(path: str | Path) -> nn.Module:
    """The trained network of a run's folder (its best.ckpt) or of a checkpoint, ready to use, in eval mode.

    It is built from the config inside, never from today's defaults: a network without LRN has the same weights as
    one with it, and would give other answers. Its input is described by the checkpoint's "data".

    Raises:
        UserError: for a file that is no checkpoint of this project, or that names code it may not run.
    """
    checkpoint = read(path)
    model = dict(checkpoint["config"]["model"])
    network = _class(model.pop("_target_"), path)(**model)
    weights = {key.removeprefix(PREFIX): v for key, v in checkpoint["state_dict"].items() if key.startswith(PREFIX)}
    network.load_state_dict(weights)
    return network.eval()


def read(path: str | Path) -> dict[str, Any]:
    """The checkpoint at `path`, or of the run's folder `path`, as plain values and tensors on the CPU."""
    file = Path(path)
    file = file / "checkpoints" / "best.ckpt" if file.is_dir() else file
    if not file.is_file():
        raise UserError(f"checkpoint={path}: no such file: {file}")
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"checkpoint={path}: not a checkpoint that can be read safely: {error!r:.150}") from None
    if not isinstance(checkpoint, dict) or not {"config", "data", "state_dict"} <= checkpoint.keys():
        raise UserError(f"checkpoint={path}: not a checkpoint of this project: it lacks config, data or state_dict")
    return checkpoint


def _class(target: str, path: str | Path) -> type[nn.Module]:
    module, _, name = target.rpartition(".")
    found = getattr(import_module(module), name, None) if module.split(".")[0] in TRUSTED else None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"checkpoint={path}: its network {target} is no torch module of {', '.join(TRUSTED)}: refused")
    return found
