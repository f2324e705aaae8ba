"""A checkpoint as a safetensors file, which other programs read too, and back."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from alexnet.settings import PATHS, SHOWN

PREFIX = "network."  # ImageClassifier.network
IMAGE = "mean_image"


def network_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The network's weights under its own names."""
    state = checkpoint["state_dict"].items()
    return {key.removeprefix(PREFIX): value for key, value in state if key.startswith(PREFIX)}


def write_safetensors(checkpoint: Mapping[str, Any], file: Path) -> None:
    """The network's weights under their own names, and as metadata what `read_safetensors` needs beside them."""
    from safetensors.torch import save

    state = network_state(checkpoint)
    about = dict(checkpoint["data"])
    tensors = {key: value.contiguous().clone() for key, value in state.items() if isinstance(value, Tensor)}
    if (image := about.pop(IMAGE, None)) is not None:
        tensors[IMAGE] = image.contiguous()
    rest = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
    config = {key: value for key, value in checkpoint["config"].items() if key not in (*PATHS, *SHOWN)}
    config["model"] = {key: None if key == "weights" else value for key, value in config["model"].items()}
    config["data"] = {key: value for key, value in config["data"].items() if f"data.{key}" not in PATHS}
    plain = {"config": config, "data": about, "epoch": checkpoint["epoch"], "state": rest}
    # save_file would leave a file that only its owner can read
    file.write_bytes(save(tensors, {"format": "pt", "alexnet": json.dumps(plain)}))


def read_safetensors(file: Path) -> dict[str, Any]:
    """As a checkpoint: config, data, epoch, state_dict. Raises nearly anything for a file that is none of these."""
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        plain = json.loads(opened.metadata()["alexnet"])
        tensors: dict[str, Any] = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    about = plain["data"] | ({IMAGE: tensors.pop(IMAGE)} if IMAGE in tensors else {})
    state = {f"{PREFIX}{key}": value for key, value in (tensors | plain["state"]).items()}
    return {"config": plain["config"], "data": about, "epoch": plain["epoch"], "state_dict": state}
