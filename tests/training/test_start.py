"""Weights of an earlier run, frozen parts, and rates part by part."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from pytorch_lightning import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from alexnet.checkpoint import read, write_safetensors
from alexnet.errors import UserError
from alexnet.models import AlexNet
from alexnet.training import optim
from alexnet.training.build import build_components
from alexnet.training.finetune import check_numbers_by_part, freeze, load_pretrained
from tests.conftest import SMOKE, digits, slow, train_py
from tests.training.test_run import TINY, Config


def small_network(**changes: Any) -> AlexNet:
    return AlexNet(10, 1, 67, width=1 / 16, **changes)


def network_of(path: Path) -> dict[str, torch.Tensor]:
    return {k: v for k, v in read(path)["state_dict"].items() if isinstance(v, torch.Tensor)}


@slow
@digits
def test_on_a_small_folder(smoke: Path, image_folder: Path, tmp_path: Path) -> None:
    """Ten classes of digits become two of one's own: the head starts anew, what is frozen stays, the rest learns. The
    run is repeated, as long as the weights are the same, and goes on without them.
    """
    run, weights = tmp_path / "run", tmp_path / "weights.ckpt"
    shutil.copy(smoke / "checkpoints" / "best.ckpt", weights)
    line = (
        *SMOKE,
        "data=folder",
        f"data.root={image_folder}",
        "data.channels=1",
        "logger=none",
        f"init_from={weights}",
    )
    said = train_py(*line, "freeze=features", "lr_multipliers={classifier.fc6: 0.1}", f"run_dir={run}").stdout
    assert f"weights of {weights}, epoch " in said
    assert "; classifier.fc8 is re-initialised, for 2 classes in place of 10" in said
    frozen = sum(v.numel() for k, v in network_of(weights).items() if ".features." in k)
    assert f"frozen: {frozen:,} parameters of " in said
    before, after = network_of(weights), network_of(run)
    for key, value in after.items():
        same = before[key].shape == value.shape and torch.equal(before[key], value)
        assert same == (".features." in key), key
    assert "the same" in train_py(f"reproduce={run}", f"run_dir={tmp_path}/again").stdout
    changed = torch.load(weights)
    changed["state_dict"]["network.features.conv1.bias"] += 1
    torch.save(changed, weights)
    failed = train_py(f"reproduce={run}", f"run_dir={tmp_path}/third", code=1).stderr
    taken = json.loads((run / "run.json").read_text())["weights"]
    assert f"error: reproduce={run}: its weights were others (SHA-256 {taken:.12}" in failed
    weights.unlink()
    (run / "metrics.json").unlink()
    train_py(f"resume={run}")
    assert (run / "metrics.json").is_file()


def test_the_same_number_of_classes_keeps_the_head(tmp_path: Path) -> None:
    """And an exported file is as good as the checkpoint."""
    old = small_network()
    state = {f"network.{key}": value for key, value in old.state_dict().items()}
    info = {"classes": list("0123456789")}
    checkpoint: dict[str, Any] = {"state_dict": state, "data": info, "epoch": 4, "config": {"model": {}, "data": {}}}
    torch.save(checkpoint, tmp_path / "a.ckpt")
    write_safetensors(checkpoint, tmp_path / "a.safetensors")
    told = []
    for name in ("a.ckpt", "a.safetensors"):
        new = small_network()
        told.append(load_pretrained(new, f"{tmp_path}/{name}", 10))
        assert all(torch.equal(a, b) for a, b in zip(new.parameters(), old.parameters(), strict=True))
    assert told[0] == (f"weights of {tmp_path}/a.ckpt, epoch 5", told[1][1], info)
    with pytest.raises(
        UserError, match=r"init_from=.*a.ckpt: these weights belong to another variant: activation is relu"
    ):
        load_pretrained(small_network(activation="tanh"), f"{tmp_path}/a.ckpt", 10)


def test_images_are_normalised_as_for_the_weights(config: Config, tmp_path: Path) -> None:
    """Unless the user says otherwise, or it is a run of an earlier version that is repeated."""
    info = {"classes": list("0123456789"), "mean": [0.25, 0.5, 0.75], "std": [0.1, 0.2, 0.3]}
    network = AlexNet(10, 3, 67, width=1 / 16)
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "data": info, "epoch": 4, "config": {}}, tmp_path / "a.ckpt")
    start = (*TINY, f"init_from={tmp_path}/a.ckpt")

    def statistics(cfg: DictConfig) -> tuple[list[float], list[float]]:
        components = build_components(cfg)
        components.data.setup()
        norm = components.data.normalize
        said = any("data.mean=[0.250, 0.500, 0.750]" in note for note in components.notes)
        assert said == (cfg.data.get("mean") == info["mean"])
        return norm.mean.tolist(), norm.std.tolist()

    cfg = config(*start)
    assert statistics(cfg) == (pytest.approx(info["mean"]), pytest.approx(info["std"]))
    assert (cfg.data.mean, cfg.data.std) == (info["mean"], info["std"]), "the run's record has them"
    mean, std = statistics(config(*start, "data.mean=[0.3,0.3,0.3]"))
    own = statistics(config(*TINY))
    assert (mean, std) == (pytest.approx([0.3] * 3), own[1])
    earlier = config(*start)
    del earlier.data.mean, earlier.data.std
    assert statistics(earlier) == own
    notes = build_components(config(*start, "data.normalize=mean_image")).notes
    assert "data.normalize=mean_image, and these weights were trained with data.normalize=channels" in notes


@pytest.mark.parametrize("weights", [3, "", ["a"], "/none", True])
def test_no_weights(weights: Any) -> None:
    with pytest.raises(UserError, match="init_from="):
        load_pretrained(small_network(), weights, 10)


@pytest.mark.parametrize(
    ("parts", "message"),
    [("featurs", r"freeze=featurs: no part of the network that has weights. Did you mean features\?"),
     (["features", "classifier"], "nothing is left to train"), (3, "freeze=3: must be the name of a part"),
     ({"features": 1}, "must be the name of a part"), ([["features"]], "no part"), ("", "no part"), ([], "must be")],
)  # fmt: skip
def test_parts_that_are_none(parts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        freeze(small_network(), parts)


@pytest.mark.parametrize("times", [3, "features", {"x": 1}, {"features": -1}, {"features": "fast"}, ["features"]])
def test_rates_that_are_none(times: Any) -> None:
    with pytest.raises(ValueError, match="lr_multipliers"):
        check_numbers_by_part(small_network(), "lr_multipliers", times)


@pytest.mark.parametrize("make", [optim.sgd, optim.adamw, partial(torch.optim.RMSprop, lr=0.01)])
def test_rates_part_by_part(make: Any) -> None:
    """The longest name counts; a schedule multiplies them all."""
    network = small_network()
    make = partial(make, lr=0.01)
    plain, scaled = (optim.make_optimizer(make, network, t) for t in (None, {"classifier": 0.5, "classifier.fc6": 3}))

    def rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
        groups = optimizer.param_groups
        return {name: group["lr"] for group in groups for name in group["param_names"]}

    before, after = rates(plain), rates(scaled)
    assert before.keys() == after.keys() == dict(network.named_parameters()).keys()
    for name, rate in after.items():
        times = 3 if name.startswith("classifier.fc6") else 0.5 if name.startswith("classifier") else 1
        assert rate == pytest.approx(times * before[name]), name
    schedule: Any = optim.cosine(scaled, 5, 10, "val/top1", "max", warmup_epochs=0)
    for _ in range(5):
        scaled.step()
        schedule["scheduler"].step()
    assert rates(scaled) == pytest.approx({name: rate / 2 for name, rate in after.items()})


@pytest.mark.parametrize("make", [optim.sgd, torch.optim.SGD, optim.adamw])
def test_decays_part_by_part(make: Any) -> None:
    """Without a gradient a step leaves 1 - lr * decay of a weight; biases keep the decay that they have."""
    network = small_network()
    every = {name: p.clone() for name, p in network.named_parameters()}
    parts = {"classifier": 0.5, "classifier.fc6": 3}
    made = partial(make, lr=0.01, weight_decay=0.1)
    optimizer = optim.make_optimizer(made, network, {"features": 0.5}, parts)
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in network.named_parameters():
        decay = 3 if name.startswith("classifier.fc6") else 0.5 if name.startswith("classifier") else 0.1
        if p.ndim > 1:
            rate = 0.005 if name.startswith("features") else 0.01
            torch.testing.assert_close(p, (1 - rate * decay) * every[name], rtol=1e-5, atol=0)
        else:
            kept = 0.0 if make is optim.adamw else 0.1
            assert {g["weight_decay"] for g in optimizer.param_groups if name in g["param_names"]} == {kept}


def test_an_optimizer_without_decay() -> None:
    with pytest.raises(ValueError, match="weight_decays: Rprop has no weight decay"):
        optim.make_optimizer(partial(torch.optim.Rprop, lr=0.01), small_network(), None, {"features": 1})


class Normed(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), nn.Linear(3, 2))

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        return self.network(batch[0]).square().mean()

    validation_step = training_step  # type: ignore[assignment]

    def configure_optimizers(self) -> Any:
        return optim.sgd(self.network)


def test_what_a_frozen_norm_has_counted_stays() -> None:
    """Through epochs and validations, which switch modes."""
    module = Normed()
    freeze(module.network, "0")
    before = {key: value.clone() for key, value in module.network.state_dict().items()}
    data = DataLoader(TensorDataset(torch.randn(16, 3)), 4)
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    Trainer(max_epochs=2, accelerator="cpu", enable_model_summary=False, **quiet).fit(module, data, data)
    after = module.network.state_dict()
    assert {key for key in after if not torch.equal(before[key], after[key])} == {"1.weight", "1.bias"}
