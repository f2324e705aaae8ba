"""Rebuilds a network from a checkpoint, and decides which code a checkpoint may name."""

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from alexnet.compat import upgrade
from alexnet.errors import ArgumentError, UserError
from alexnet.run_identity import PATHS, SHOWN

PREFIX = "network."  # ImageModule.network
IMAGE = "mean_image"
TRUSTED = (__name__.partition(".")[0], "torch", "torchvision")
BASELINES = tuple(f"{TRUSTED[0]}.models.baselines.{name}" for name in ("torchvision", "timm"))  # which make networks


def load(path: str | Path, trusted: Sequence[str] = ()) -> nn.Module:
    """Loads a trained network, ready to use, in eval mode.

    It is built from the config inside, never from today's defaults: a network without LRN has the same weights as one
    with it, and would give other answers. Its input is described by the checkpoint's "data".

    Args:
        path: a run's folder (its best.ckpt), a checkpoint, or a safetensors file that export.py has written.
        trusted: packages beside this one, torch and torchvision whose classes and functions a checkpoint may name, such
            as ["timm"]: loading it runs their code.

    Raises:
        UserError: for a file that is no checkpoint of this project, or that names code it may not run.
    """
    return rebuild(read(path), path, trusted)


def rebuild(checkpoint: dict[str, Any], path: str | Path, trusted: Sequence[str] = ()) -> nn.Module:
    """Rebuilds the network of a checkpoint that was read from `path`, in eval mode."""
    try:
        model = dict(checkpoint["config"]["model"])
        make = network_class(model.pop("_target_"), trusted)
        of_run = {"weights": None, "devices": None, "new_head": False}  # what the run did, and not what the network is
        model |= {key: value for key, value in of_run.items() if key in model}
        network = make(**model)
        network.load_state_dict(network_state(checkpoint))
        if outputs := checkpoint.get("outputs"):  # numbers, which it has learned in standard deviations
            network = Rescaled(network, outputs["mean"], outputs["std"])
    except Exception as error:  # whatever a file holds that was made or changed by somebody else
        raise UserError(f"checkpoint={path}: cannot be rebuilt: {' '.join(str(error).split())[:300]}") from error
    return network.eval()


class Rescaled(nn.Module):
    """A network whose outputs are in the unit of the numbers that it predicts.

    Args:
        mean, std: of the training images' numbers, (num_classes,).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, images: Tensor) -> Tensor:
        """Returns outputs (N, num_classes) of images (N, C, H, W)."""
        outputs: Tensor = self.network(images)
        return outputs * self.std + self.mean


def rebuild_metrics(config: Mapping[str, Any], trusted: Sequence[str] = ()) -> tuple[dict[str, Metric], list[str]]:
    """Returns the metrics of a checkpoint's config by name, and a message for those that may not be built."""
    found, problems = dict[str, Metric](), []
    for name, node in (config.get("metrics") or {}).items():
        try:
            found[name] = _make(node, ("torchmetrics", *TRUSTED, *trusted), Metric)
        except Exception as error:  # noqa: BLE001 (as above)
            problems.append(f"metrics.{name} is left out: {' '.join(str(error).split())[:300]}")
    return found, problems


def rebuild_loss(config: Mapping[str, Any], trusted: Sequence[str] = ()) -> tuple[nn.Module, list[str]]:
    """Returns the loss of a checkpoint's config; where it may not be built, cross-entropy and a message."""
    plain = nn.CrossEntropyLoss(reduction="sum")
    if not config.get("loss"):  # of versions that had no other
        return plain, []
    try:
        return _make(config["loss"], (*TRUSTED, *trusted), nn.Module), []
    except Exception as error:  # noqa: BLE001 (as above)
        return plain, [f"loss: {' '.join(str(error).split())[:300]}; the loss is cross-entropy"]


def task_class(config: Mapping[str, Any], trusted: Sequence[str] = ()) -> Any:
    """Returns the class of a checkpoint's task. Checkpoints of versions without tasks are of classification.

    Raises:
        UserError: for a class of a package that is not trusted.
    """
    target = (config.get("task") or {}).get("_target_", f"{TRUSTED[0]}.training.tasks.ImageClassifier")
    try:
        return _named(target, (*TRUSTED, *trusted))
    except (ArgumentError, ImportError) as error:
        raise UserError(f"task.{error}") from error


def rebuild_source(node: Mapping[str, Any], trusted: Sequence[str] = ()) -> Any:
    """Returns the ImageSource that a checkpoint's config describes.

    Raises:
        ArgumentError: for a class of a package that is not trusted.
    """
    return _make(node, (*TRUSTED, *trusted), object)


def _make(node: Mapping[str, Any], packages: Sequence[str], kind: Any) -> Any:
    """Builds what a recorded node describes. Raises ArgumentError unless it is a `kind` of one of these packages."""
    arguments = dict(node)
    target = str(arguments.pop("_target_", None))
    found = _named(target, packages)
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ArgumentError(f"_target_={target}: no {kind.__name__}")
    return found(**arguments)


def check_trusted(trusted: Any) -> list[str]:
    """Returns the package names in a value of `trusted`, such as timm or [timm,mine].

    Raises:
        ArgumentError: for what is no name of a package.
    """
    names = [trusted] if isinstance(trusted, str) else trusted
    if not isinstance(names, Sequence) or not all(isinstance(n, str) and n.isidentifier() for n in names):
        raise ArgumentError(f"trusted={trusted}: must be the names of packages, such as [timm]")
    return list(names)


def read(path: str | Path, key: str = "checkpoint") -> dict[str, Any]:
    """Reads a checkpoint, as plain values and tensors on the CPU.

    Args:
        path: of the checkpoint, or of a run's folder.
        key: what an error message calls it.

    Raises:
        UserError: for a file that is no checkpoint of this project.
    """
    file = Path(path)
    file = file / "checkpoints" / "best.ckpt" if file.is_dir() else file
    if not file.is_file():
        raise UserError(f"{key}={path}: no such file: {file}")
    try:
        if file.suffix == ".safetensors":
            checkpoint = read_safetensors(file)
        else:
            checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except ImportError:
        raise UserError(f"{key}={path}: needs a package that is not installed: pip install safetensors") from None
    except Exception as error:  # a damaged file raises nearly every kind
        raise UserError(f"{key}={path}: not a checkpoint that can be read safely: {error!r:.150}") from error
    if not isinstance(checkpoint, dict) or not {"config", "data", "state_dict"} <= checkpoint.keys():
        raise UserError(f"{key}={path}: not a checkpoint of this project: it lacks config, data or state_dict")
    if isinstance(checkpoint["config"], dict):
        checkpoint["config"] = upgrade(checkpoint["config"])
    return checkpoint


def network_class(target: str, trusted: Sequence[str] = ()) -> Callable[..., nn.Module]:
    """Returns the class of the network, or the function of torchvision or timm that makes it.

    It may be any class or function of a package that the user trusts.

    Raises:
        ArgumentError: for all others: a checkpoint may come from anybody.
    """
    found = _named(target, (*TRUSTED, *trusted))
    module, _, name = target.rpartition(".")
    is_class = isinstance(found, type) and issubclass(found, nn.Module)
    is_trusted = target in BASELINES or (module.split(".")[0] in trusted and callable(found))
    if is_class or is_trusted or (module.startswith("torchvision.models") and _makes_a_network(name)):
        return found
    raise ArgumentError(f"_target_={target}: no network class, and no other is loaded from a checkpoint")


def _named(target: str, packages: Sequence[str]) -> Any:
    """Imports what a dotted name names. Raises ArgumentError before importing if it is of none of these packages."""
    module, _, name = target.rpartition(".")
    package = module.split(".")[0]
    if package not in packages:
        raise ArgumentError(
            f"_target_={target}: not of {', '.join(packages)}, and no other code is run for a checkpoint, which may "
            f"come from anybody; trusted=[{package or 'PACKAGE'}] allows it"
        )
    found = getattr(import_module(module), name, None)
    if found is None:
        raise ArgumentError(f"_target_={target}: {module} has no {name}")
    return found


def _makes_a_network(name: str) -> bool:
    from torchvision.models import list_models

    return name in list_models()


def network_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the network's weights under its own parameter names."""
    state = checkpoint["state_dict"].items()
    return {key.removeprefix(PREFIX): value for key, value in state if key.startswith(PREFIX)}


def write_safetensors(checkpoint: Mapping[str, Any], file: Path) -> None:
    """Writes the network's weights, and as metadata what `read_safetensors` needs."""
    from safetensors.torch import save

    state = network_state(checkpoint)
    about = dict(checkpoint["data"])
    tensors = {key: value.contiguous().clone() for key, value in state.items() if isinstance(value, Tensor)}
    if (image := about.pop(IMAGE, None)) is not None:
        tensors[IMAGE] = image.contiguous()
    rest = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
    config = {key: value for key, value in _without_paths(checkpoint["config"]).items() if key not in SHOWN}
    config["model"] = {key: None if key == "weights" else value for key, value in config["model"].items()}
    plain = {"config": config, "data": about, "epoch": checkpoint["epoch"], "state": rest}
    plain["outputs"] = checkpoint.get("outputs")
    # save_file would leave a file that only its owner can read
    file.write_bytes(save(tensors, {"format": "pt", "alexnet": json.dumps(plain)}))


def _without_paths(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a config without the keys of PATHS, at any depth."""
    kept = {}
    for key, value in node.items():
        if f"{prefix}{key}" not in PATHS:
            kept[key] = _without_paths(value, f"{prefix}{key}.") if isinstance(value, Mapping) else value
    return kept


def read_safetensors(file: Path) -> dict[str, Any]:
    """Reads what `write_safetensors` wrote, as a checkpoint. Raises many kinds of errors for any other file."""
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        plain = json.loads(opened.metadata()["alexnet"])
        tensors: dict[str, Any] = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    about = plain["data"] | ({IMAGE: tensors.pop(IMAGE)} if IMAGE in tensors else {})
    state = {f"{PREFIX}{key}": value for key, value in (tensors | plain["state"]).items()}
    found = {"config": plain["config"], "data": about, "epoch": plain["epoch"], "state_dict": state}
    found["outputs"] = plain.get("outputs")
    return found
