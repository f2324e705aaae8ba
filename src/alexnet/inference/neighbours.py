"""Finds the training images that a network takes for similar: the paper's Figure 4, right, and section 6.1."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from alexnet.data import ImageDataModule
from alexnet.errors import UserError
from alexnet.inference.trained import TrainedModel
from alexnet.models.base import last_linear


@contextmanager
def capture_features(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the last hidden layer's activations (N, D) in float32, a tensor per batch.

    They are what the last layer gets, of AlexNet fc7 after its ReLU.
    """
    last = last_linear(network)
    if last is None:
        raise UserError(f"{type(network).__name__}: has no linear layer at its end, so no last hidden layer")
    collected: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, given: collected.append(given[0].detach().float()))
    try:
        yield collected
    finally:
        hook.remove()


def nearest(
    trained: TrainedModel, activations: Tensor, data: ImageDataModule, count: int
) -> list[list[dict[str, Any]]]:
    """Returns the `count` training images with the activations nearest to each row of `activations` (N, D).

    The distance is Euclidean, and the nearest come first: `row` of the packed array, `name`, `class`, `distance`.
    """
    train, start = data.splits["train"], 0
    best, places = torch.empty(len(activations), 0), torch.empty(len(activations), 0, dtype=torch.int64)
    loader: Any = data.loader("train")
    shown = track(loader, "comparing", console=Console(stderr=True), transient=True)
    with capture_features(trained.network) as collected:
        for images, labels, _ in shown:
            trained.logits(images)
            found = torch.cdist(activations, collected.pop(), compute_mode="donot_use_mm_for_euclid_dist").cpu()
            index = torch.arange(start, start := start + len(labels)).expand(len(activations), -1)
            best, chosen = torch.cat([best, found], 1).sort(stable=True)
            places = torch.cat([places, index], 1).gather(1, chosen)[:, :count]
            best = best[:, :count]
    assert data.packed
    names = data.packed.names_of("train", train.rows)

    def described(i: int, distance: float) -> dict[str, Any]:
        label = data.info.classes[train.labels[i]]
        return {"row": int(train.rows[i]), "name": names[i], "class": label, "distance": distance}

    return [
        list(map(described, ours, distances)) for ours, distances in zip(places.tolist(), best.tolist(), strict=True)
    ]
