"""Optimisers and learning-rate schedules, as the configs in conf/optimizer and conf/scheduler name them."""

import inspect
import logging
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CyclicLR, LambdaLR, LRScheduler, MultiStepLR, OneCycleLR, ReduceLROnPlateau

from alexnet.errors import ArgumentError
from alexnet.validation import MOST, flag, integer, number

log = logging.getLogger("alexnet")

Kind = TypeVar("Kind", bound=Hashable)
MOST_LR = 1e6  # beyond it nothing is learnt by any network, and float32 ends


def sgd(
    network: nn.Module,
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    nesterov: bool = False,
    bias_lr: float = 1.0,
    bias_decay: bool = True,
) -> SGD:
    """Stochastic gradient descent. For a constant rate it is the paper's rule (section 5):
    v = momentum v - weight_decay lr w - lr g; w = w + v.

    bias_lr: the rate of biases, times lr; 2 in the 2012 source (epsB). bias_decay: whether biases decay; not there.
    Both hold for the scales and shifts of norms too.
    """
    number("lr", lr, 0, MOST_LR, above=True)
    number("momentum", momentum, 0, 1)
    if flag("nesterov", nesterov) and not momentum:
        raise ArgumentError("nesterov=True: needs momentum above 0")
    return SGD(_groups(network, lr, weight_decay, bias_lr, bias_decay), lr, momentum, nesterov=nesterov, fused=True)


def adamw(
    network: nn.Module,
    lr: float = 1e-3,
    betas: Sequence[float] = (0.9, 0.999),
    weight_decay: float = 0.01,
    bias_lr: float = 1.0,
    bias_decay: bool = False,
) -> AdamW:
    """AdamW (Loshchilov and Hutter, ICLR 2019), torch's. bias_lr and bias_decay as in `sgd`."""
    number("lr", lr, 0, MOST_LR, above=True)
    if not isinstance(betas, list | tuple) or len(betas) != 2 or not all(number("betas", b, 0, 1) < 1 for b in betas):
        raise ArgumentError(f"betas={betas}: must be two numbers of at least 0 and below 1")
    return AdamW(_groups(network, lr, weight_decay, bias_lr, bias_decay), lr, (betas[0], betas[1]), fused=True)


def _groups(
    network: nn.Module, lr: float, weight_decay: float, bias_lr: float, bias_decay: bool
) -> list[dict[str, Any]]:
    number("weight_decay", weight_decay, 0, 1000)
    number("bias_lr", bias_lr, 0, 1000)
    flag("bias_decay", bias_decay)
    parameters = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    biases = [(name, p) for name, p in parameters if p.ndim <= 1]  # and the scales and shifts of norms
    weights = [(name, p) for name, p in parameters if p.ndim > 1]
    return [
        {"params": weights, "weight_decay": weight_decay},
        {"params": biases, "weight_decay": weight_decay if bias_decay else 0.0, "lr": lr * bias_lr},
    ]


def make_optimizer(
    partial: Callable[..., Any], network: nn.Module, times: Mapping[str, float] | None = None
) -> Optimizer:
    """What a config of optimizer/ names: a function of the network, or any class of torch's kind, of its parameters.
    times: of the rate, by the names of parts.
    """
    if _is_class(partial, Optimizer):
        optimizer = partial([(name, p) for name, p in network.named_parameters() if p.requires_grad])
    else:
        optimizer = partial(network)
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(f"must make a torch.optim.Optimizer, and made a {type(optimizer).__name__}")
    if times:
        scale_rates(optimizer, times)
    return optimizer


def unfused(optimizer: Optimizer) -> Optimizer:
    """The same optimiser without torch's fused step, for float16: a fused one divides the gradients by the scale of the
    loss itself, after they have been logged and clipped.
    """
    if not optimizer.defaults.get("fused"):
        return optimizer
    groups = [group | {"fused": False} for group in optimizer.param_groups]
    arguments = inspect.signature(type(optimizer)).parameters
    defaults = {key: value for key, value in optimizer.defaults.items() if key in arguments}
    return type(optimizer)(groups, **defaults | {"fused": False})


def split_groups(optimizer: Optimizer, kind: Callable[[str], Kind]) -> list[Kind]:
    """Parts the optimiser's groups of parameters until each has names of one kind. Gives the kind of every group."""
    whole, kinds = list(optimizer.param_groups), []
    optimizer.param_groups.clear()
    for group in whole:
        apart: dict[Kind, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            apart.setdefault(kind(name), []).append((name, parameter))
        for mine, parameters in apart.items():
            optimizer.add_param_group({**group, "params": parameters})
            kinds.append(mine)
    return kinds


def scale_rates(optimizer: Optimizer, times: Mapping[str, float]) -> None:
    """Multiplies the rates of the parameters of some parts, by the parts' names; the longest that fits counts."""

    def part(name: str) -> str:
        return max((part for part in times if f"{name}.".startswith(f"{part}.")), key=len, default="")

    for mine, group in zip(split_groups(optimizer, part), optimizer.param_groups, strict=True):
        group["lr"] *= times.get(mine, 1)


def make_schedule(
    partial: Callable[..., Any], optimizer: Optimizer, epoch: int, steps: float, monitor: str, mode: str
) -> "Schedule":
    """What a config of scheduler/ names: a function as those below, or any class of torch's kind.

    Such a class goes on once an epoch, but OneCycleLR and CyclicLR every step; total_steps is the run's if it is not
    given, and ReduceLROnPlateau watches `monitor`.
    """
    if not _is_class(partial, LRScheduler):
        schedule = partial(optimizer, epoch, steps, monitor, mode)
        if not (schedule is None or (isinstance(schedule, dict) and "scheduler" in schedule)):
            raise ArgumentError(f"must make a torch scheduler or Lightning's lr_scheduler dict, not {schedule!r:.60}")
        return schedule
    cls, given = partial.func, partial.keywords  # type: ignore[attr-defined]
    if issubclass(cls, ReduceLROnPlateau):
        return {"scheduler": partial(optimizer, **{"mode": mode} | given), "interval": "epoch", "monitor": monitor}
    takes_total = "total_steps" in inspect.signature(cls).parameters
    total = {"total_steps": steps} if takes_total and not given.keys() & {"total_steps", "epochs"} else {}
    interval = "step" if issubclass(cls, OneCycleLR | CyclicLR) else "epoch"
    return {"scheduler": partial(optimizer, **total), "interval": interval}


def _is_class(partial: Callable[..., Any], kind: type) -> bool:
    made_by = getattr(partial, "func", None)
    return isinstance(made_by, type) and issubclass(made_by, kind)


# Each schedule gives what Lightning's configure_optimizers takes as "lr_scheduler", or None. It is told how many steps
# an `epoch` has and how many `steps` the whole run (infinite if nothing ends it).
Schedule = dict[str, Any] | None


def plateau(
    optimizer: Optimizer, epoch: int, steps: float, monitor: str, mode: str,
    factor: float = 0.1, patience: int = 5, reductions: int = 3,
) -> Schedule:  # fmt: skip
    """Times `factor` when `monitor` has not improved for more than `patience` epochs, `reductions` times at the most
    (paper, section 5: divided by 10 when the validation error stopped improving, three times).
    """
    number("factor", factor, 0, 0.99, above=True)
    integer("patience", patience, 0)
    least = factor ** integer("reductions", reductions, 1)
    scheduler = ReduceLROnPlateau(
        optimizer,
        "max" if mode == "max" else "min",
        factor,
        patience,
        min_lr=[group["lr"] * least for group in optimizer.param_groups],
        eps=0,  # torch's own leaves out reductions of less than 1e-8
    )
    return {"scheduler": scheduler, "interval": "epoch", "monitor": monitor}


def step(
    optimizer: Optimizer, epoch: int, steps: float, monitor: str, mode: str,
    milestones: Sequence[int] = (30, 60, 80), factor: float = 0.1,
) -> Schedule:  # fmt: skip
    """Times `factor` after each of the epochs `milestones`."""
    if not isinstance(milestones, list | tuple):
        raise ArgumentError(f"milestones={milestones}: must be a list of epochs, such as [30,60,80]")
    for milestone in milestones:
        integer("milestones", milestone, 1)
    number("factor", factor, 0, 1, above=True)
    return {"scheduler": MultiStepLR(optimizer, list(milestones), factor), "interval": "epoch"}


def cosine(
    optimizer: Optimizer, epoch: int, steps: float, monitor: str, mode: str,
    warmup_epochs: float = 1.0, final: float = 0.0,
) -> Schedule:  # fmt: skip
    """Every step: up linearly over `warmup_epochs`, then down along half a cosine to `final` times the rate."""
    number("warmup_epochs", warmup_epochs, 0, MOST)
    number("final", final, 0, 1)
    if math.isinf(steps):
        raise ArgumentError("a cosine needs an end: set trainer.max_epochs, or choose scheduler=plateau")
    warmup = warmup_epochs * epoch
    if warmup >= steps:
        log.warning(
            "scheduler.warmup_epochs=%g is not over when the run is, after %d steps: its learning rate never reaches "
            "optimizer.lr", warmup_epochs, steps,
        )  # fmt: skip

    def scale(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min((step - warmup) / max(steps - warmup, 1), 1.0)
        return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2

    return {"scheduler": LambdaLR(optimizer, scale), "interval": "step"}


def constant(optimizer: Optimizer, epoch: int, steps: float, monitor: str, mode: str) -> Schedule:
    """The optimiser's rate from the first step to the last."""
    return None
