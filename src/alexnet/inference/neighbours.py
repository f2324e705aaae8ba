"""Finds the training images that a network takes for similar: the paper's Figure 4, right, and section 6.1."""

from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from alexnet.data import ImageDataModule
from alexnet.errors import UserError
from alexnet.inference.trained import TrainedModel
from alexnet.models.features import capture_features


def nearest(
    trained: TrainedModel, features: Sequence[Tensor], data: ImageDataModule, count: int
) -> list[list[dict[str, Any]]]:
    """Returns the `count` training images with the features nearest to those of each image.

    The distance is Euclidean, and the nearest come first: `row` of the packed array, `name`, `class`, `distance`.

    Args:
        trained: the network.
        features: of the images, a batch each, as capture_features collects them.
        data: of the run's training, set up.
        count: how many.

    Raises:
        UserError: for a network that has none.
    """
    if not features:
        raise UserError("--neighbours: no linear layer of this network gets a row for each image")
    activations = torch.cat([*features])
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
