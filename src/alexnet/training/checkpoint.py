"""How a network comes back out of a checkpoint."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from alexnet.errors import UserError
from alexnet.training.exported import network_state, read_safetensors

TRUSTED = (__name__.partition(".")[0], "torch", "torchvision")


def load(path: str | Path) -> nn.Module:
    """The trained network of a run's folder (its best.ckpt), a checkpoint or a safetensors file that export.py has
    written, ready to use, in eval mode.

    It is built from the config inside, never from today's defaults: a network without LRN has the same weights as
    one with it, and would give other answers. Its input is described by the checkpoint's "data".

    Raises:
        UserError: for a file that is no checkpoint of this project, or that names code it may not run.
    """
    return rebuild(read(path), path)


def rebuild(checkpoint: dict[str, Any], path: str | Path) -> nn.Module:
    """The same of a checkpoint that has been read from `path`."""
    try:
        model = dict(checkpoint["config"]["model"])
        make = network_class(model.pop("_target_"))
        model |= {key: None for key in ("weights", "devices") if key in model}  # of the run, not of the network
        network = make(**model)
        network.load_state_dict(network_state(checkpoint))
    except Exception as error:  # whatever a file holds that was made or changed by somebody else
        raise UserError(f"checkpoint={path}: cannot be rebuilt: {' '.join(str(error).split())[:300]}") from error
    return network.eval()


def read(path: str | Path, key: str = "checkpoint") -> dict[str, Any]:
    """The checkpoint at `path`, or of the run's folder `path`, as plain values and tensors on the CPU. key: what a
    mistake calls it.
    """
    file = Path(path)
    file = file / "checkpoints" / "best.ckpt" if file.is_dir() else file
    if not file.is_file():
        raise UserError(f"{key}={path}: no such file: {file}")
    try:
        if file.suffix == ".safetensors":
            return read_safetensors(file)
        checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except ImportError:
        raise UserError(f"{key}={path}: needs a package that is not installed: pip install safetensors") from None
    except Exception as error:  # a damaged file raises nearly every kind
        raise UserError(f"{key}={path}: not a checkpoint that can be read safely: {error!r:.150}") from None
    if not isinstance(checkpoint, dict) or not {"config", "data", "state_dict"} <= checkpoint.keys():
        raise UserError(f"{key}={path}: not a checkpoint of this project: it lacks config, data or state_dict")
    return checkpoint


def network_class(target: str) -> Callable[..., nn.Module]:
    """The network's class, or torchvision's function that makes it. Raises ValueError for one that is not trusted:
    a checkpoint may come from anybody.
    """
    module, _, name = target.rpartition(".")
    found = getattr(import_module(module), name, None) if module.split(".")[0] in TRUSTED else None
    is_class = isinstance(found, type) and issubclass(found, nn.Module)
    if found is None or not (is_class or (module.startswith("torchvision.models") and _makes_a_network(name))):
        raise ValueError(
            f"_target_={target}: no network class of {', '.join(TRUSTED)}, and no other is loaded from a checkpoint; "
            f"put one into src/alexnet/models"
        )
    return found


def _makes_a_network(name: str) -> bool:
    from torchvision.models import list_models

    return name in list_models()
