"""What is no checkpoint of this project is refused in one line."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet import load
from alexnet.errors import UserError
from alexnet.models import AlexNet


def good(**arguments: Any) -> dict[str, Any]:
    model = {"num_classes": 3, "width": 0.0625, "image_size": 67} | arguments
    network = AlexNet(**model)
    model["_target_"] = "alexnet.models.AlexNet"
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    return {"config": {"model": model}, "data": {}, "state_dict": state}


CHANGES: dict[str, Any] = {
    "no target": lambda c: c["config"]["model"].pop("_target_"),
    "target of another type": lambda c: c["config"]["model"].update(_target_=3),
    "target that is not there": lambda c: c["config"]["model"].update(_target_="torch.nn.Nothing"),
    "module that is not there": lambda c: c["config"]["model"].update(_target_="torch.nothing.Nothing"),
    "a function of torch": lambda c: c["config"]["model"].update(_target_="torch.hub.load"),
    "a builtin": lambda c: c["config"]["model"].update(_target_="os.system"),
    "argument that is not there": lambda c: c["config"]["model"].update(lrm=True),
    "argument out of range": lambda c: c["config"]["model"].update(width=-1),
    "model of another type": lambda c: c["config"].update(model=[1, 2]),
    "config of another type": lambda c: c.update(config=None),
    "weights of another type": lambda c: c.update(state_dict=7),
    "weights of another shape": lambda c: c["state_dict"].update({"network.features.conv1.bias": torch.zeros(1)}),
    "weights missing": lambda c: c["state_dict"].pop("network.features.conv1.bias"),
    "keys of another type": lambda c: c.update(state_dict={1: 2}),
    "extra state of another type": lambda c: c["state_dict"].update({"network._extra_state": 5}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_checkpoints_are_refused(change: str, tmp_path: Path) -> None:
    checkpoint = good()
    torch.save(checkpoint, tmp_path / "good.ckpt")
    assert load(tmp_path / "good.ckpt")(torch.zeros(1, 3, 67, 67)).shape == (1, 3)
    CHANGES[change](checkpoint)
    torch.save(checkpoint, tmp_path / "changed.ckpt")
    with pytest.raises(UserError, match="checkpoint="):
        load(tmp_path / "changed.ckpt")


def test_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    torch.save(good(), tmp_path / "good.ckpt")
    content, draw = (tmp_path / "good.ckpt").read_bytes(), random.Random(0)
    files = [b"", b"text", b"\x80\x04N.", content[: len(content) // 2]]
    for _ in range(60):  # in the zip's directory and the pickle: a changed weight cannot be told from a trained one
        changed = bytearray(content)
        changed[draw.randrange(64, 1500)] ^= 1 << draw.randrange(8)
        files.append(bytes(changed))
    for each in files:
        (tmp_path / "file.ckpt").write_bytes(each)
        try:
            load(tmp_path / "file.ckpt")
        except UserError:
            continue
        assert len(each) == len(content)
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "none.ckpt")


def test_a_network_of_two_devices_comes_back_undivided(tmp_path: Path) -> None:
    """The machine that reads a checkpoint need not have the devices of the one that wrote it."""
    checkpoint = good(devices=["cpu", "cpu"], lrn_window="tower")
    checkpoint["config"]["model"]["devices"] = ["cuda:8", "cuda:9"]
    torch.save(checkpoint, tmp_path / "divided.ckpt")
    network = load(tmp_path / "divided.ckpt")
    assert torch.equal(network.features.conv2.weight, checkpoint["state_dict"]["network.features.conv2.weight"])
