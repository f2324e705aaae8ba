"""Fine-tuning: the weights that a network starts from, and which of its parts are trained, and how fast."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig
from torch import Tensor, nn

from alexnet.checkpoint import network_state, read
from alexnet.data import ImageDataModule
from alexnet.errors import ArgumentError, UserError, suggest
from alexnet.models.base import last_layer, load_weights
from alexnet.validation import check_float


def load_pretrained(network: nn.Module, weights: Any, num_classes: int) -> tuple[str, str, dict[str, Any]]:
    """Loads the weights of a run, a checkpoint or an exported file into `network`.

    Where these are for another number of classes the last layer keeps its initial weights.

    Returns:
        A message about it, the SHA-256 of the loaded weights, and what the images were that they were trained on.

    Raises:
        UserError: for a file that is none of these, and weights of another network or variant.
    """
    if not isinstance(weights, str) or not weights:
        raise UserError(f"init_from={weights}: must be the folder of a run, a checkpoint or an exported file")
    checkpoint = read(Path(weights).expanduser(), "init_from")
    state = network_state(checkpoint)
    theirs = len(checkpoint["data"]["classes"])
    try:
        load_weights(network, state, new_head=theirs != num_classes)
    except ValueError as error:
        raise UserError(f"init_from={weights}: {error}") from None
    taken = hashlib.sha256()
    for name, value in sorted(state.items()):
        if isinstance(value, Tensor):
            taken.update(name.encode() + value.contiguous().view(-1).view(torch.uint8).numpy().data)
    said = f"weights of {weights}, epoch {checkpoint['epoch'] + 1}"
    if theirs != num_classes:
        said += f"; {last_layer(network)} is re-initialised, for {num_classes} classes in place of {theirs}"
    return said, taken.hexdigest(), checkpoint["data"]


def normalize_like(cfg: DictConfig, data: ImageDataModule, theirs: Mapping[str, Any]) -> list[str]:
    """Normalises images as those of the pretrained weights were, unless data.mean or data.std is set.

    Args:
        cfg: of the run.
        data: is changed.
        theirs: a checkpoint's "data".

    Returns:
        What to say of it.
    """
    mode, their_mode = cfg.data.normalize, "channels" if theirs.get("mean_image") is None else "mean_image"
    if mode != their_mode:
        return [f"data.normalize={mode}, and these weights were trained with data.normalize={their_mode}"]
    if mode == "mean_image" or cfg.data.mean is not None or cfg.data.std is not None:
        return []
    cfg.data.mean, cfg.data.std = theirs["mean"], theirs["std"]
    data.mean, data.std = theirs["mean"], theirs["std"]
    mean, std = _in_brief(theirs["mean"]), _in_brief(theirs["std"])
    return [f"images are normalised as for these weights: data.mean=[{mean}] data.std=[{std}]"]


def _in_brief(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def freeze(network: nn.Module, parts: Any) -> str:
    """Freezes parts of a network: they are not trained, and stay in eval mode.

    Args:
        network: is changed.
        parts: a name or a list of names such as features or classifier.fc6.

    Returns:
        What to say of it.

    Raises:
        ArgumentError: for a name that is none of the network's, and where nothing is left to train.
    """
    names = [parts] if isinstance(parts, str) else parts
    if not isinstance(names, list | ListConfig) or not names:
        raise ArgumentError(f"freeze={parts}: must be the name of a part, or a list of such names")
    for part in names:
        network.get_submodule(check_part(network, "freeze", part)).eval().requires_grad_(requires_grad=False)
    count = sum(p.numel() for p in network.parameters())
    frozen = sum(p.numel() for p in network.parameters() if not p.requires_grad)
    if frozen == count:
        raise ArgumentError(f"freeze={parts}: nothing is left to train")
    return f"frozen: {frozen:,} parameters of {count:,} are not trained"


def check_part(network: nn.Module, key: str, part: Any) -> str:
    """Raises ArgumentError unless `part` is the name of a layer or of a group of them."""
    known = [name for name, layer in network.named_modules() if name and next(layer.parameters(), None) is not None]
    if part not in known:
        near = suggest(str(part), known) or f" Parts are {', '.join(known)}"
        raise ArgumentError(f"{key}={part}: no part of the network that has weights.{near}")
    return str(part)


def check_numbers_by_part(network: nn.Module, key: str, numbers: Any) -> dict[str, float]:
    """Raises ArgumentError unless `numbers` maps names of parts to numbers of at least 0, or is None."""
    if numbers is None:
        return {}
    if not isinstance(numbers, Mapping):
        raise ArgumentError(f"{key}={numbers}: must be numbers by part, such as {{features: 0.1}}")
    for part, number in numbers.items():
        check_part(network, key, part)
        check_float(f"{key}.{part}", number, 0, 1e6)
    return dict(numbers)
