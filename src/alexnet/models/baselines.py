"""Networks of torchvision and timm by name, as baselines for ablations."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

from alexnet.errors import ArgumentError, suggest
from alexnet.models.base import load_weights
from alexnet.validation import check_bool, check_int

# What nearly all networks of both libraries were trained with on ImageNet, where their weights do not say.
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}

# Networks with auxiliary classifiers, whose outputs they give beside their own in training: here they are left out.
# Their weights are for images with this mean and standard deviation, which torchvision's transform_input makes.
WITH_AUXILIARY = ("googlenet", "inception_v3")
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # in the names of weights
HALVES = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def torchvision(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    *,
    weights: str | None = None,
    new_head: bool = False,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Returns a classifier of torchvision.models, with its own keys and initial weights.

    Args:
        name: such as resnet18; torchvision.models.list_models() has them all.
        num_classes: number of outputs.
        in_channels: channels of the input, 3.
        weights: the name of torchvision's, such as DEFAULT or IMAGENET1K_V1, which are fetched once into torch.hub's
            folder; or a file of such weights, as torch.save or safetensors has written it.
        new_head: the last layer is re-initialised, for other classes than those of the weights.
        options: more arguments of the network, such as {stochastic_depth_prob: 0.1}.

    Raises:
        ArgumentError: for a name or an option that torchvision does not know, and weights that do not fit.
    """
    known = models.list_models(module=models)
    if name not in known:
        raise ArgumentError(f"name={name}: torchvision has no such classifier.{suggest(str(name), known)}")
    if in_channels != 3:
        raise ArgumentError(f"in_channels={in_channels}: torchvision's networks take 3; data.channels=3 stores RGB")
    if name in WITH_AUXILIARY:
        options = {"aux_logits": False, "init_weights": True} | dict(options or {})
    network = _create(models.get_model, name, options, num_classes=check_int("num_classes", num_classes, 1))
    start_from(network, weights, name, new_head=new_head)
    return network


def timm(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    *,
    weights: str | None = None,
    new_head: bool = False,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Returns a network of timm, with its own keys and initial weights.

    Args:
        name: such as convnext_atto; timm.list_models() has them all.
        num_classes: number of outputs.
        in_channels: channels of the input.
        weights: a file of weights, as torch.save or safetensors has written it.
        new_head: the last layer is re-initialised, for other classes than those of the weights.
        options: more arguments of timm.create_model, such as {drop_path_rate: 0.1}.

    Raises:
        ArgumentError: without timm, for a name or an option that it does not know, and weights that do not fit.
    """
    try:
        import timm as library
    except ImportError as error:
        raise ArgumentError("needs a package that is not installed: pip install timm") from error
    if not library.is_model(name):
        raise ArgumentError(f"name={name}: timm has no such network.{suggest(str(name), library.list_models())}")
    number = check_int("num_classes", num_classes, 1)
    network = _create(library.create_model, name, options, num_classes=number, in_chans=in_channels)
    start_from(network, weights, new_head=new_head)
    return network


def _create(
    make: Callable[..., nn.Module], name: str, options: Mapping[str, Any] | None, **arguments: Any
) -> nn.Module:
    try:
        return make(name, **arguments, **(options or {}))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"options={dict(options or {})}: {error}") from error


def start_from(
    network: nn.Module, weights: str | None, name: str | None = None, *, new_head: bool, in_channels: int = 3
) -> None:
    """Loads weights into the network, and keeps how their images were normalised in `pretrained_statistics`.

    Args:
        network: which is changed.
        weights: the name of weights of torchvision, or a file; None: nothing is done.
        name: of the network in torchvision; None: weights are in a file.
        new_head: the last layer keeps its initial weights.
        in_channels: of the network's input; weights of torchvision's networks are for 3.

    Raises:
        ArgumentError: for weights that are not there, or do not fit.
    """
    if check_bool("new_head", new_head) and weights is None:
        raise ArgumentError("new_head=true: there are no weights whose head it would replace")
    if weights is None:
        return
    state, statistics = read_weights(weights, name)
    if name in WITH_AUXILIARY and not network.transform_input:
        statistics = HALVES
    if name in WITH_AUXILIARY and not network.aux_logits:
        state = {key: value for key, value in state.items() if not key.startswith(AUXILIARY)}
    if name is not None and in_channels != 3:
        raise ArgumentError(f"weights={weights}: are for 3 channels, and the input has {in_channels}")
    try:
        load_weights(network, state, new_head=new_head)
    except ValueError as error:
        raise ArgumentError(f"weights={weights}: {error}") from None
    config = getattr(network, "pretrained_cfg", {})  # of timm
    network.pretrained_statistics = {key: list(config.get(key, statistics[key])) for key in IMAGENET}  # type: ignore


def read_weights(weights: Any, name: str | None) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Returns a state dict, and the mean and standard deviation of the images that it was trained on.

    Args:
        weights: the name of weights of torchvision, or a file.
        name: of the network in torchvision; None: weights are in a file.

    Raises:
        ArgumentError: for what is neither, and weights that cannot be fetched.
    """
    known = {} if name is None else dict(models.get_model_weights(name).__members__)
    if weights in known:
        return _fetched(weights, known[weights])
    if not isinstance(weights, str) or not Path(weights).is_file():
        names = f"{', '.join(known)}, or " if known else ""
        raise ArgumentError(f"weights={weights}: must be {names}a file that is there")
    try:
        if weights.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(weights), IMAGENET
        return dict(torch.load(weights, map_location="cpu", weights_only=True)), IMAGENET
    except ImportError as error:
        raise ArgumentError("weights: needs a package that is not installed: pip install safetensors") from error
    except Exception as error:  # a damaged file raises nearly every kind
        raise ArgumentError(f"weights={weights}: no state dict that can be read safely: {error!r:.100}") from error


def _fetched(weights: str, known: Any) -> tuple[dict[str, Any], dict[str, list[float]]]:
    transform = known.transforms()
    statistics = {"mean": list(transform.mean), "std": list(transform.std)}
    try:
        return dict(known.get_state_dict(progress=True, check_hash=True)), statistics
    except (OSError, RuntimeError) as error:
        place = f"{torch.hub.get_dir()}/checkpoints/{known.url.rpartition('/')[2]}"
        raise ArgumentError(f"weights={weights}: cannot be fetched ({error}); put {known.url} at {place}") from error
