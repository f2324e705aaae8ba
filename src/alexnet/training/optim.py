"""Optimisers and learning-rate schedules, as conf/optimizer and conf/scheduler name them."""

import inspect
import logging
import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CyclicLR, LambdaLR, LRScheduler, MultiStepLR, OneCycleLR, ReduceLROnPlateau

from alexnet.errors import ArgumentError
from alexnet.validation import MOST, check_bool, check_float, check_int

log = logging.getLogger("alexnet")

Kind = TypeVar("Kind", bound=Hashable)
MOST_LR = 1e6  # beyond it nothing is learnt by any network, and float32 ends


def sgd(
    network: nn.Module,
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    *,
    nesterov: bool = False,
    bias_lr_multiplier: float = 1.0,
    bias_decay: bool = True,
) -> SGD:
    """Makes stochastic gradient descent.

    For a constant rate it is the paper's rule (section 5): v = momentum v - weight_decay lr w - lr g; w = w + v.

    Args:
        network: whose parameters are trained.
        lr: learning rate.
        momentum: in [0, 1].
        weight_decay: of weights.
        nesterov: Nesterov's momentum.
        bias_lr_multiplier: of the rate of biases, and of the scales and shifts of norms; 2 in the 2012 source (epsB).
        bias_decay: whether these decay; not in the 2012 source.

    Raises:
        ArgumentError: for a value out of range.
    """
    check_float("lr", lr, 0, MOST_LR, exclusive_min=True)
    check_float("momentum", momentum, 0, 1)
    if check_bool("nesterov", nesterov) and not momentum:
        raise ArgumentError("nesterov=True: needs momentum above 0")
    groups = _groups(network, lr, weight_decay, bias_lr_multiplier, bias_decay=bias_decay)
    return SGD(groups, lr, momentum, nesterov=nesterov, fused=_can_be_fused(network))


def adamw(
    network: nn.Module,
    lr: float = 1e-3,
    betas: Sequence[float] = (0.9, 0.999),
    weight_decay: float = 0.01,
    bias_lr_multiplier: float = 1.0,
    *,
    bias_decay: bool = False,
) -> AdamW:
    """Makes torch's AdamW (Loshchilov and Hutter, ICLR 2019). bias_lr_multiplier and bias_decay as in `sgd`."""
    check_float("lr", lr, 0, MOST_LR, exclusive_min=True)
    if (
        not isinstance(betas, list | tuple)
        or len(betas) != 2
        or not all(check_float("betas", b, 0, 1) < 1 for b in betas)
    ):
        raise ArgumentError(f"betas={betas}: must be two numbers of at least 0 and below 1")
    groups = _groups(network, lr, weight_decay, bias_lr_multiplier, bias_decay=bias_decay)
    return AdamW(groups, lr, (betas[0], betas[1]), fused=_can_be_fused(network))


def _groups(
    network: nn.Module, lr: float, weight_decay: float, bias_lr_multiplier: float, *, bias_decay: bool
) -> list[dict[str, Any]]:
    check_float("weight_decay", weight_decay, 0, 1000)
    check_float("bias_lr_multiplier", bias_lr_multiplier, 0, 1000)
    check_bool("bias_decay", bias_decay)
    parameters = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    biases = [(name, p) for name, p in parameters if p.ndim <= 1]  # and the scales and shifts of norms
    weights = [(name, p) for name, p in parameters if p.ndim > 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": weight_decay},
        {"params": biases, "weight_decay": weight_decay if bias_decay else 0.0, "lr": lr * bias_lr_multiplier},
    ]
    return [group for group in groups if group["params"]]  # torch refuses an empty group beside one with names


def _can_be_fused(network: nn.Module) -> bool:
    return not any(parameter.is_complex() for parameter in network.parameters())


def make_optimizer(
    partial: Callable[..., Any],
    network: nn.Module,
    times: Mapping[str, float] | None = None,
    decays: Mapping[str, float] | None = None,
) -> Optimizer:
    """Makes the optimiser that a config of optimizer/ describes.

    Args:
        partial: a function of the network, or any class of torch's kind, of its parameters.
        network: whose parameters are trained.
        times: of the rate, by the names of parts.
        decays: the weight decay of parts that have one of their own.
    """
    if _is_class(partial, Optimizer):
        optimizer = partial([(name, p) for name, p in network.named_parameters() if p.requires_grad])
    else:
        optimizer = partial(network)
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(f"must make a torch.optim.Optimizer, and made a {type(optimizer).__name__}")
    if times:
        scale_rates(optimizer, times)
    if decays:
        set_decays(optimizer, network, decays)
    return optimizer


def unfused(optimizer: Optimizer) -> Optimizer:
    """Returns the same optimiser without torch's fused step, for float16.

    A fused one divides the gradients by the scale of the loss itself, after they have been logged and clipped.
    """
    if not optimizer.defaults.get("fused"):
        return optimizer
    groups = [group | {"fused": False} for group in optimizer.param_groups]
    arguments = inspect.signature(type(optimizer)).parameters
    defaults = {key: value for key, value in optimizer.defaults.items() if key in arguments}
    return type(optimizer)(groups, **defaults | {"fused": False})


def split_groups(optimizer: Optimizer, kind: Callable[[str], Kind]) -> list[tuple[Kind, dict[str, Any]]]:
    """Splits parameter groups until each has names of one kind. Returns every group with its kind."""
    whole, kinds = list(optimizer.param_groups), []
    optimizer.param_groups.clear()
    for group in whole:
        apart: dict[Kind, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            apart.setdefault(kind(name), []).append((name, parameter))
        for mine, parameters in apart.items():
            optimizer.add_param_group({**group, "params": parameters})
            kinds.append(mine)
    return list(zip(kinds, optimizer.param_groups, strict=True))


def scale_rates(optimizer: Optimizer, times: Mapping[str, float]) -> None:
    """Multiplies the rates of some parts' parameters, by the parts' names; the longest matching name counts."""
    for part, group in split_groups(optimizer, lambda name: _part_of(name, times)):
        group["lr"] *= times.get(part, 1)


def set_decays(optimizer: Optimizer, network: nn.Module, decays: Mapping[str, float]) -> None:
    """Sets the weight decay of the weights of some parts, as scale_rates finds them; that of biases stays."""
    weights = {name for name, p in network.named_parameters() if p.ndim > 1}

    def part_of_weights(name: str) -> str:
        return _part_of(name, decays) if name in weights else ""

    for part, group in split_groups(optimizer, part_of_weights):
        if part and "weight_decay" not in group:
            raise ArgumentError(f"weight_decays: {type(optimizer).__name__} has no weight decay")
        if part:
            group["weight_decay"] = decays[part]


def _part_of(name: str, parts: Collection[str]) -> str:
    """Returns the longest name of a part that a parameter belongs to, or ''."""
    return max((part for part in parts if f"{name}.".startswith(f"{part}.")), key=len, default="")


def make_schedule(
    partial: Callable[..., Any], optimizer: Optimizer, steps_per_epoch: int, total_steps: float, monitor: str, mode: str
) -> "Schedule":
    """Returns the schedule that a config of scheduler/ names: a function like those below, or a class like torch's.

    Such a class goes on once an epoch, but OneCycleLR and CyclicLR every step; total_steps is the run's if it is not
    given, and ReduceLROnPlateau watches `monitor`.
    """
    if not _is_class(partial, LRScheduler):
        schedule = partial(optimizer, steps_per_epoch, total_steps, monitor, mode)
        if not (schedule is None or (isinstance(schedule, dict) and "scheduler" in schedule)):
            raise ArgumentError(f"must make a torch scheduler or Lightning's lr_scheduler dict, not {schedule!r:.60}")
        return schedule
    cls, given = partial.func, partial.keywords  # type: ignore[attr-defined]
    if issubclass(cls, ReduceLROnPlateau):
        return {"scheduler": partial(optimizer, **{"mode": mode} | given), "interval": "epoch", "monitor": monitor}
    arguments = {}
    if "total_steps" in inspect.signature(cls).parameters and not given.keys() & {"total_steps", "epochs"}:
        arguments["total_steps"] = total_steps
    interval = "step" if issubclass(cls, OneCycleLR | CyclicLR) else "epoch"
    return {"scheduler": partial(optimizer, **arguments), "interval": interval}


def _is_class(partial: Callable[..., Any], kind: type) -> bool:
    made_by = getattr(partial, "func", None)
    return isinstance(made_by, type) and issubclass(made_by, kind)


# Each schedule returns what Lightning takes as "lr_scheduler" of configure_optimizers, or None. total_steps is infinite
# if nothing ends the run.
Schedule = dict[str, Any] | None


def plateau(
    optimizer: Optimizer,
    steps_per_epoch: int,
    total_steps: float,
    monitor: str,
    mode: str,
    factor: float = 0.1,
    patience: int = 5,
    reductions: int = 3,
) -> Schedule:
    """Multiplies the rate by `factor` when `monitor` has not improved for more than `patience` epochs.

    It does so `reductions` times at the most (paper, section 5: divided by 10 when the validation error stopped
    improving, three times).
    """
    check_float("factor", factor, 0, 0.99, exclusive_min=True)
    check_int("patience", patience, 0)
    least = factor ** check_int("reductions", reductions, 1)
    direction: Literal["max", "min"] = "max" if mode == "max" else "min"
    scheduler = ReduceLROnPlateau(
        optimizer,
        direction,
        factor,
        patience,
        min_lr=[group["lr"] * least for group in optimizer.param_groups],
        eps=0,  # torch's own leaves out reductions of less than 1e-8
    )
    return {"scheduler": scheduler, "interval": "epoch", "monitor": monitor}


def step(
    optimizer: Optimizer,
    steps_per_epoch: int,
    total_steps: float,
    monitor: str,
    mode: str,
    milestones: Sequence[int] = (30, 60, 80),
    factor: float = 0.1,
) -> Schedule:
    """Multiplies the rate by `factor` after each of the epochs `milestones`."""
    if not isinstance(milestones, list | tuple):
        raise ArgumentError(f"milestones={milestones}: must be a list of epochs, such as [30,60,80]")
    for milestone in milestones:
        check_int("milestones", milestone, 1)
    check_float("factor", factor, 0, 1, exclusive_min=True)
    return {"scheduler": MultiStepLR(optimizer, list(milestones), factor), "interval": "epoch"}


def cosine(
    optimizer: Optimizer,
    steps_per_epoch: int,
    total_steps: float,
    monitor: str,
    mode: str,
    warmup_epochs: float = 1.0,
    final: float = 0.0,
) -> Schedule:
    """Changes the rate every step: up linearly over `warmup_epochs`, then down half a cosine to `final` times it."""
    check_float("warmup_epochs", warmup_epochs, 0, MOST)
    check_float("final", final, 0, 1)
    if math.isinf(total_steps):
        raise ArgumentError("a cosine needs an end: set trainer.max_epochs, or choose scheduler=plateau")
    warmup = warmup_epochs * steps_per_epoch
    if warmup >= total_steps:
        log.warning(
            "scheduler.warmup_epochs=%g is not over when the run is, after %d steps: its learning rate never reaches "
            "optimizer.lr",
            warmup_epochs,
            total_steps,
        )

    def scale(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
        return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2

    return {"scheduler": LambdaLR(optimizer, scale), "interval": "step"}


def constant(optimizer: Optimizer, steps_per_epoch: int, total_steps: float, monitor: str, mode: str) -> Schedule:
    """Keeps the optimiser's rate from the first step to the last."""
    return None
