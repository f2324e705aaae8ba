"""A trained network with its run's config and data, as its checkpoint has them, never today's defaults."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from alexnet.checkpoint import Rescaled, check_trusted, read, rebuild, rebuild_source, task_class
from alexnet.config_errors import prefix_errors
from alexnet.cores import limit_threads
from alexnet.data import ImageDataModule
from alexnet.data.splits import CLASS
from alexnet.data.transforms import Normalize
from alexnet.errors import UserError, suggest
from alexnet.io import read_json
from alexnet.run_dir import read_run_json
from alexnet.run_identity import format_value
from alexnet.training.module import ImageModule

# What may be overridden of the data: where the images are, and how they are read.
FREE = ("root", "cache_dir", "num_workers", "batch_size", "packed", "on_broken", "background", "value_range")
PRECISIONS = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass
class TrainedModel:
    """A trained network, and the settings of its run.

    Attributes:
        file: the checkpoint.
        folder: its run's, or where it lies.
        config, info: the checkpoint's "config" and "data".
        normalize: makes images the network's input.
    """

    file: Path
    folder: Path
    epoch: int
    network: nn.Module
    config: dict[str, Any]
    info: dict[str, Any]
    normalize: Normalize
    trusted: list[str]  # packages whose code the checkpoint may name

    @cached_property
    def origin(self) -> dict[str, Any]:
        """The run's run.json; empty for a checkpoint outside a run directory."""
        return read_run_json(self.folder)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The run's metrics.json; empty for a checkpoint outside a run directory."""
        return read_json(self.folder / "metrics.json")

    @property
    def crops(self) -> int:
        """The number of windows in the run's own test."""
        return self.config.get("test_crops", 1)

    @property
    def variant(self) -> str:
        """The network's class and toggles: AlexNet: lrn off, dropout 0.5, ..."""
        model = self.config["model"]
        switches = tuple(f"{key}_" for key, value in model.items() if isinstance(value, bool))
        given = ("_target_", "num_classes", "in_channels", "image_size", "weights", "devices", "new_head")
        parts = []
        for key, value in model.items():
            if key in given or value is None or key.startswith(switches):  # lrn_size belongs to lrn
                continue
            text = {True: "on", False: "off"}[value] if isinstance(value, bool) else format_value(value)
            parts.append(f"{key.replace('_', ' ')} {text}")
        return f"{model['_target_'].rpartition('.')[2]}: {', '.join(parts)}".removesuffix(": ")

    def images(self, asked: Mapping[str, Any], crops: int = 1) -> ImageDataModule:
        """Returns the run's images, set up.

        Args:
            asked: `data`, another source, and `data.root` and so on of FREE. Of a folder with other images than the
                run's, all are test images, or those of its test folder.
            crops: windows of each test image.

        Raises:
            UserError: for a key that the run says itself, and for images of other classes.
        """
        values = {k: v for k, v in self.config["data"].items() if k != "_target_"}
        values.setdefault("background", None)  # versions before background ignored transparency
        for key, value in asked.items():
            name = "source" if key == "data" else key.removeprefix("data.")
            if name not in (*FREE, "source"):
                if name in values:
                    raise UserError(
                        f"{key}={value}: the checkpoint says this itself, {key}={format_value(values[name])}"
                    )
                known = ("data", *(f"data.{free}" for free in FREE))
                raise UserError(f"{key}: no such key.{suggest(key, known) or ' Known are ' + ', '.join(known)}")
            values[name] = value
        if "data.root" in asked and isinstance(values["source"], Mapping) and "root" in values["source"]:
            values["source"] = {**values["source"], "root": asked["data.root"]}
        if "data" in asked:
            values |= {"num_classes": None} | ({} if "data.root" in asked else {"root": None})
        data = self._opened(values, asked, crops)
        if data.info.classes != self.info["classes"]:
            ours, theirs = (
                ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
                for names in (self.info["classes"], data.info.classes)
            )
            raise UserError(f"data: other classes than the network was trained on: {theirs} in place of {ours}")
        if not asked.keys() & {"data", "data.root"} and data.info.fingerprint != self.info["fingerprint"]:
            raise UserError(
                f"data: its images were others (SHA-256 {self.info['fingerprint']:.12}, now "
                f"{data.info.fingerprint:.12}); data.root=FOLDER names images to use in their place"
            )
        return data

    def _opened(self, values: dict[str, Any], asked: Mapping[str, Any], crops: int) -> ImageDataModule:
        """Returns the images that `values` describe. A folder other than the run's own is all for testing."""
        if values["source"] == "folder" and asked.keys() & {"data", "data.root"}:
            own = None if "data" in asked else self._own_images(values, crops)
            if own is not None:
                return own
            values = values | {"num_classes": None, "test_classes": list(self.info["classes"])}
            if values.get("value_range") is None:
                values["value_range"] = self.info.get("value_range")
        with prefix_errors("data"):
            if isinstance(values["source"], Mapping):
                values = values | {"source": rebuild_source(values["source"], self.trusted)}
            data = ImageDataModule(**values, crops=crops)
        data.setup()
        return data

    def _own_images(self, values: dict[str, Any], crops: int) -> ImageDataModule | None:
        """Returns the images that `values` describe, split as in training, if they are the run's; else None."""
        try:
            data = ImageDataModule(**values, crops=crops)
            data.setup()
        except (ValueError, UserError):  # not such a folder
            return None
        return data if data.info.fingerprint == self.info["fingerprint"] else None

    @property
    def kind(self) -> str:
        """The kind of the labels, of splits.KINDS."""
        return str(self.info.get("kind", CLASS))

    @property
    def learned(self) -> nn.Module:
        """The network as it was trained: for numbers, its outputs are in standard deviations."""
        return self.network.network if isinstance(self.network, Rescaled) else self.network

    def logits(self, images: Tensor) -> Tensor:
        """Returns the outputs float32 (N, num_classes) of uint8 crops (N, C, crop, crop).

        They are in the precision of the run's own test; what the task makes of them, as in the run, is its own matter.
        """
        device = next(self.network.parameters()).device
        dtype = PRECISIONS.get(self.config["trainer"]["precision"])
        input_dtype = dtype if dtype is torch.bfloat16 else torch.float32
        ready = self.normalize(images.to(device), input_dtype)
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not None):
            return self.learned(ready.contiguous(memory_format=_layout(self.config))).float()


def load_run(path: Path, trusted: Any = ()) -> TrainedModel:
    """Loads a run's best.ckpt, or a checkpoint, onto the device that the run would use here.

    trusted: packages whose code the checkpoint may name, see checkpoint.load.

    Raises:
        UserError: for what is no checkpoint of this project, or cannot be rebuilt.
    """
    file = path / "checkpoints" / "best.ckpt" if path.is_dir() else path
    limit_threads()
    with prefix_errors(""):
        trusted = check_trusted(trusted)
    checkpoint = read(path)
    folder = file.parent.parent if file.parent.name == "checkpoints" else file.parent
    network, config = rebuild(checkpoint, path, trusted), checkpoint["config"]
    try:
        on_cpu = config["trainer"]["accelerator"] == "cpu" or not torch.cuda.is_available()
        device = "cpu" if on_cpu else "cuda"
        network.to(device, memory_format=_layout(config))  # type: ignore[call-overload]
        deterministic = config["trainer"].get("deterministic", False)
        torch.backends.cudnn.allow_tf32 = not deterministic
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which cuBLAS wants for it
        torch.use_deterministic_algorithms(bool(deterministic), warn_only=deterministic == "warn")
        info, epoch = checkpoint["data"], checkpoint["epoch"] + 1
        return TrainedModel(file, folder, epoch, network, config, info, Normalize.from_description(info), trusted)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"checkpoint={path}: of another version of the code, or damaged: {error!r:.200}") from error


def _layout(config: Mapping[str, Any]) -> torch.memory_format:
    return torch.channels_last if config["channels_last"] else torch.contiguous_format


def make_task(
    trained: TrainedModel, loss: nn.Module | None = None, metrics: dict[str, Metric] | None = None
) -> ImageModule:
    """Returns the task of a run, which interprets the outputs of trained.logits.

    Args:
        trained: a run's network.
        loss: the run's own.
        metrics: the run's own.

    Raises:
        UserError: for a checkpoint whose task is of a package that is not trusted, or is none.
    """
    kind, info = task_class(trained.config, trained.trusted), trained.info
    if not (isinstance(kind, type) and issubclass(kind, ImageModule)):
        raise UserError(f"checkpoint={trained.file}: its task is no {ImageModule.__name__}")
    return kind(trained.learned, None, None, len(info["classes"]), loss=loss, metrics=metrics, data=info)  # type: ignore[arg-type]
