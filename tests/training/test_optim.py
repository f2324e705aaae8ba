import math
from collections import OrderedDict
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from alexnet.config import build
from alexnet.recipes import krizhevsky2012
from alexnet.training import optim


def test_krizhevskys_rule_by_hand() -> None:
    """v = 0.9 v - 0.0005 lr w - lr g; w = w + v, in float64, with biases at twice the rate and without decay."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 2).double()
    optimizer = optim.sgd(layer, lr=0.01, momentum=0.9, weight_decay=5e-4, bias_lr_multiplier=2, bias_decay=False)
    w, b = layer.weight.detach().clone(), layer.bias.detach().clone()
    vw, vb = torch.zeros_like(w), torch.zeros_like(b)
    for _ in range(5):
        layer.weight.grad, layer.bias.grad = torch.randn_like(w), torch.randn_like(b)
        optimizer.step()
        vw = 0.9 * vw - 0.0005 * 0.01 * w - 0.01 * layer.weight.grad
        vb = 0.9 * vb - 0.02 * layer.bias.grad
        w, b = w + vw, b + vb
        torch.testing.assert_close(layer.weight.detach(), w)
        torch.testing.assert_close(layer.bias.detach(), b)


def test_plain_groups_and_frozen_parameters() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].weight.requires_grad_(False)
    for make in (optim.sgd, optim.adamw):
        weights, biases = make(network, lr=0.1, weight_decay=0.3, bias_decay=True).param_groups
        assert [len(weights["params"]), len(biases["params"])] == [1, 2]
        assert weights["weight_decay"] == biases["weight_decay"] == 0.3
        assert weights["lr"] == biases["lr"] == 0.1


def test_a_network_without_biases_and_one_of_which_only_biases_are_trained() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Flatten(), nn.Linear(4, 2, bias=False))
    only_bias = nn.Linear(2, 2)
    only_bias.weight.requires_grad_(False)
    for make in (optim.sgd, optim.adamw):
        optimizer = optim.make_optimizer(partial(make, lr=0.1), network, {"0": 2})
        assert [(group["param_names"], group["lr"]) for group in optimizer.param_groups] == [
            (["0.weight"], 0.2),
            (["2.weight"], 0.1),
        ]
        assert [group["param_names"] for group in make(only_bias).param_groups] == [["bias"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"lr": 0}, "lr=0"), ({"lr": float("inf")}, "lr=inf"), ({"momentum": 2}, "momentum=2"),
     ({"weight_decay": -1}, "weight_decay=-1"), ({"bias_lr_multiplier": "x"}, "bias_lr_multiplier=x"),
     ({"bias_decay": 0}, "bias_decay=0"),
     ({"nesterov": True, "momentum": 0}, "nesterov=True")],
)  # fmt: skip
def test_sgd_values_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optim.sgd(nn.Linear(1, 1), **arguments)


@pytest.mark.parametrize("betas", [[0.9], [0.9, 1.0], [-0.1, 0.9], 0.9, None])
def test_adamw_betas_out_of_range(betas: Any) -> None:
    with pytest.raises(ValueError, match="betas="):
        optim.adamw(nn.Linear(1, 1), betas=betas)


def rates(schedule: Any, optimizer: torch.optim.Optimizer, metrics: list[float] | int) -> list[list[float]]:
    result = []
    for metric in metrics if isinstance(metrics, list) else range(metrics):
        result.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        plateau = isinstance(schedule["scheduler"], torch.optim.lr_scheduler.ReduceLROnPlateau)
        schedule["scheduler"].step(*([metric] if plateau else []))
    return result


def test_plateau_divides_by_ten_three_times_at_the_most() -> None:
    optimizer = optim.sgd(nn.Linear(1, 1), lr=0.01, bias_lr_multiplier=2)
    schedule = optim.plateau(optimizer, 9, 9, "val/top1", "max", patience=1)
    assert schedule["monitor"] == "val/top1"
    seen = rates(schedule, optimizer, [0.1, 0.2, 0.2, 0.2, 0.3, *[0.3] * 12])
    weights = [w for w, _ in seen]
    assert weights[:6] == pytest.approx([0.01, 0.01, 0.01, 0.01, 0.001, 0.001])
    assert weights[-1] == pytest.approx(1e-5)
    assert all(b == pytest.approx(2 * w) for w, b in seen), "biases stay at twice the rate"


def test_step() -> None:
    optimizer = optim.sgd(nn.Linear(1, 1), lr=1.0)
    schedule = optim.step(optimizer, 9, 9, "m", "max", milestones=[2, 4], factor=0.5)
    assert [w for w, _ in rates(schedule, optimizer, 6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_the_log_of_2012(config: Any) -> None:
    """Every rate of every epoch, against the log's lines put down as rates."""
    network = nn.Sequential(OrderedDict(conv1=nn.Conv2d(1, 1, 1), fc8=nn.Linear(1, 1)))
    optimizer = optim.sgd(network, lr=0.01, bias_lr_multiplier=2)
    schedule = build(config("scheduler=log_2012"), "scheduler", _partial_=True)(optimizer, 1, 1, "m", "max")
    names = [group["param_names"] for group in optimizer.param_groups]
    seen = dict(zip([name for (name,) in names], zip(*rates(schedule, optimizer, 93), strict=True), strict=True))
    for name, lengths in {
        "conv1.weight": {23: 1e-2, 51: 1e-3, 68: 1e-4, 72: 1e-5, 93: 0},
        "fc8.weight": {23: 1e-2, 51: 1e-3, 78: 1e-4, 93: 1e-5},
        "conv1.bias": {23: 2e-2, 72: 2e-3, 93: 0},
        "fc8.bias": {23: 2e-2, 93: 2e-3},
    }.items():
        expected = [next(rate for until, rate in lengths.items() if epoch < until) for epoch in range(93)]
        assert seen[name] == pytest.approx(expected), name


def test_changes_by_hand_keep_what_goes_together() -> None:
    network = nn.Sequential(*(nn.Linear(1, 1) for _ in range(5)))
    optimizer = optim.adamw(network, lr=1.0, weight_decay=0.3)
    krizhevsky2012.piecewise(optimizer, 1, 1, "m", "max", [{"after": 1, "of": "4.*", "times": 0.5}])
    groups = [(group["param_names"], group["weight_decay"]) for group in optimizer.param_groups]
    assert [(len(names), decay) for names, decay in groups] == [(4, 0.3), (1, 0.3), (4, 0), (1, 0)]
    assert groups[1][0] == ["4.weight"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [([], "changes=\\[\\]"), ([{"after": 1, "of": "*"}], "changes.0="), ([3], "changes.0=3"),
     ([{"after": 1.5, "of": "*", "times": 1}], "changes.0.after=1.5"),
     ([{"after": 1, "of": "*", "times": -1}], "changes.0.times=-1"),
     ([{"after": 1, "of": "*conv9*", "times": 1}], "changes.0.of=.conv9.: fits none of weight, bias"),
     ([{"after": 1, "of": 3, "times": 1}], "changes.0.of=3: must be a pattern")],
)  # fmt: skip
def test_changes_by_hand_that_are_none(changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        krizhevsky2012.piecewise(optim.sgd(nn.Linear(1, 1)), 1, 1, "m", "max", changes)


def test_cosine_with_warm_up_by_hand() -> None:
    optimizer = optim.sgd(nn.Linear(1, 1), lr=1.0)
    schedule = optim.cosine(
        optimizer, steps_per_epoch=10, total_steps=100, monitor="m", mode="max", warmup_epochs=1, final=0.1
    )
    assert schedule["interval"] == "step"
    seen = [w for w, _ in rates(schedule, optimizer, 101)]
    for step, rate in enumerate(seen):
        down = 0.1 + 0.9 * (1 + math.cos(math.pi * (step - 10) / 90)) / 2
        assert rate == pytest.approx((step + 1) / 11 if step < 10 else down)


def test_cosine_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="a cosine needs an end"):
        optim.cosine(optim.sgd(nn.Linear(1, 1)), 10, math.inf, "m", "max")


def test_constant_and_bad_schedules() -> None:
    optimizer = optim.sgd(nn.Linear(1, 1))
    assert optim.constant(optimizer, 1, 1, "m", "max") is None
    for make, arguments, message in (
        (optim.plateau, {"factor": 1}, "factor=1"),
        (optim.plateau, {"patience": -1}, "patience=-1"),
        (optim.step, {"milestones": [0]}, "milestones=0"),
        (optim.cosine, {"final": 2}, "final=2"),
        (optim.cosine, {"warmup_epochs": -1}, "warmup_epochs=-1"),
        (optim.step, {"milestones": 5}, "milestones=5"),
        (optim.step, {"milestones": None}, "milestones=None"),
    ):
        with pytest.raises(ValueError, match=message):
            make(optimizer, 1, 1, "m", "max", **arguments)


@pytest.mark.parametrize("make", [optim.sgd, optim.adamw])
def test_complex_weights_are_trained(make: Any) -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 2, dtype=torch.complex64)
    optimizer, goal = make(network, lr=0.05), torch.randn(2, 3, dtype=torch.complex64)
    losses = []
    for _ in range(100):
        losses.append((network.weight - goal).abs().square().sum())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.1 * losses[0]


def test_norms_go_with_the_biases() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2), nn.LayerNorm(2))
    weights, others = optim.sgd(network, lr=0.1, weight_decay=0.3, bias_lr_multiplier=2, bias_decay=False).param_groups
    assert [id(p) for p in weights["params"]] == [id(network[0].weight), id(network[3].weight)]
    assert len(others["params"]) == 6
    assert (weights["weight_decay"], others["weight_decay"], others["lr"]) == (0.3, 0.0, 0.2)


def test_torchs_own_classes() -> None:
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    optimizer = optim.make_optimizer(partial(torch.optim.RMSprop, lr=0.5, momentum=0.9), network)
    assert [id(p) for group in optimizer.param_groups for p in group["params"]] == [id(network.weight)]
    cycle = optim.make_schedule(partial(lr_scheduler.OneCycleLR, max_lr=1.0), optimizer, 4, 12, "val/top1", "max")
    assert cycle is not None
    assert (cycle["interval"], cycle["scheduler"].total_steps) == ("step", 12)
    plateau = optim.make_schedule(partial(lr_scheduler.ReduceLROnPlateau, patience=2), optimizer, 4, 12, "m", "max")
    assert plateau is not None
    assert (plateau["monitor"], plateau["scheduler"].mode, plateau["interval"]) == ("m", "max", "epoch")
    with pytest.raises(ValueError, match="made a Linear"):
        optim.make_optimizer(lambda network: network, network)
    with pytest.raises(ValueError, match="must make a torch scheduler or"):
        optim.make_schedule(lambda *_: 3, optimizer, 4, 12, "m", "max")


def test_every_reduction_of_a_small_rate_is_made() -> None:
    optimizer = optim.sgd(nn.Linear(1, 1), lr=1e-6)
    schedule = optim.plateau(optimizer, 9, 9, "val/top1", "max", patience=0)
    assert rates(schedule, optimizer, [0.5] * 9)[-1][0] == pytest.approx(1e-9, rel=1e-6)


def test_a_warm_up_that_does_not_end_is_said(logged: pytest.LogCaptureFixture) -> None:
    for epochs, said in ((3, True), (1, False)):
        logged.clear()
        optim.cosine(optim.sgd(nn.Linear(1, 1)), 10, 20, "m", "max", warmup_epochs=epochs)
        assert ("never reaches optimizer.lr" in logged.text) == said
