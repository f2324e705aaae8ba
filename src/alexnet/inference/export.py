"""Exports a trained network to files for other programs, each tried before it gets its name."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from alexnet.checkpoint import IMAGE, read, read_safetensors, rebuild, write_safetensors
from alexnet.config_errors import prefix_errors
from alexnet.errors import UserError
from alexnet.inference import card
from alexnet.inference.out import check_new
from alexnet.inference.trained import TrainedModel, load_run
from alexnet.io import atomic_write, write, write_json
from alexnet.rng import generator
from alexnet.validation import check_choice

FILES = {"safetensors": "model.safetensors", "onnx": "model.onnx", "torch_export": "model.pt2"}
INPUT = "pictures"  # the name of an ONNX model's input, which other programs use
CLOSE = 1e-4  # of the largest logit: two programs add up in another order


class WithInput(nn.Module):
    """A network together with the preparation of its input.

    Takes images (N, C, crop, crop), float32 from 0 to 255, and gives logits (N, num_classes).

    Args:
        network: the trained one.
        info: of ImageDataModule.describe.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, info: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(info[key]).view(-1, 1, 1) for key in ("mean", "std"))
        image = info.get(IMAGE)
        scale, shift = 1 / (255 * std), -mean / std
        if image is not None:
            scale, shift = torch.ones_like(std), -image
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images * self.scale + self.shift)
        return logits


def export(
    run: Path, format: str, out: Path | None = None, *, force: bool = False, trusted: Any = ()
) -> tuple[list[Path], str]:
    """Writes the network of a run's folder or checkpoint, model.json and README.md, the model card, into a folder.

    Args:
        run: the run's folder, or the checkpoint.
        format: safetensors (weights, for `alexnet.load` and torch), onnx, or torch_export (for torch.export.load).
        out: the folder; None: RUN/export.
        force: a file that is there already is replaced.
        trusted: see checkpoint.load.

    Returns:
        The files, and what was tried of the network's.

    Raises:
        UserError: for what does not suit, and where the file's answers are not the network's.
    """
    with prefix_errors(""):
        check_choice("format", format, FILES)
    trained = load_run(run, trusted)
    out = out or trained.folder / "export"
    file = out / FILES[format]
    check_new(file, (file.suffix,), force=force)
    trained.network.cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    out.mkdir(parents=True, exist_ok=True)
    with prefix_errors(f"format={format}"), atomic_write(file) as beside:
        tried = {"safetensors": _safetensors, "onnx": _onnx, "torch_export": _torch_export}[format](trained, beside)
    info = card.plain(trained)
    write_json(out / "model.json", info)
    write(out / "README.md", card.text(trained, info))
    return [file, out / "model.json", out / "README.md"], tried


def _safetensors(trained: TrainedModel, file: Path) -> str:
    write_safetensors(read(trained.file), file)
    again = rebuild(read_safetensors(file), file, trained.trusted)
    for (name, ours), theirs in zip(trained.network.state_dict().items(), again.state_dict().values(), strict=True):
        if isinstance(ours, Tensor) and not torch.equal(ours, theirs):
            raise UserError(f"{name}: is not the same in the file")
    return "read back: every weight is the same"


def _onnx(trained: TrainedModel, file: Path) -> str:
    import onnxscript  # noqa: F401  # what torch.onnx needs; its own error is longer

    network, images = WithInput(trained.network, trained.info).eval(), _images(trained)
    program = _quietly(
        torch.onnx.export,
        network,
        (images,),
        dynamo=True,
        dynamic_shapes=({0: Dim("batch")},),
        input_names=[INPUT],
        output_names=["logits"],
        verbose=False,
    )
    program.model.metadata_props.update(network=trained.variant, classes=json.dumps(trained.info["classes"]))
    program.save(file, external_data=False)
    try:
        from onnxruntime import InferenceSession
    except ImportError:
        return "not tried: pip install onnxruntime"
    session = InferenceSession(file, providers=["CPUExecutionProvider"])
    return _compare("onnxruntime", network, lambda x: session.run(None, {INPUT: x.numpy()})[0], trained)


def _torch_export(trained: TrainedModel, file: Path) -> str:
    network, images = WithInput(trained.network, trained.info).eval(), _images(trained)
    program = _quietly(torch.export.export, network, (images,), dynamic_shapes=({0: Dim("batch")},))
    with open(file, "wb") as opened:
        torch.export.save(program, opened)
    again = torch.export.load(io.BytesIO(file.read_bytes())).module()
    return _compare("torch.export.load", network, lambda x: again(x).detach().numpy(), trained)


def _compare(name: str, network: nn.Module, other: Callable[[Tensor], Any], trained: TrainedModel) -> str:
    """Compares the exported network on images and a batch size that it was not traced with."""
    images = _images(trained, 5)
    with torch.no_grad():
        ours = network(images).numpy()
    off = float(np.abs(other(images) - ours).max() / np.abs(ours).max())
    if not off <= CLOSE:
        raise UserError(f"{name} gives other answers than the network: {off:.2g} of the largest logit; nothing written")
    return f"{name} gives the network's answers to {off:.1g} of the largest logit"


def _images(trained: TrainedModel, n: int = 2) -> Tensor:
    shape = (n, trained.info["channels"], trained.info["crop"], trained.info["crop"])
    return torch.randint(0, 256, shape, generator=generator(n, "export")).float()


def _quietly(of: Callable[..., Any], *arguments: Any, **named_arguments: Any) -> Any:
    """Hides the deprecation warnings that both exporters give about themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        return of(*arguments, **named_arguments)
