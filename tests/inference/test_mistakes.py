"""The wrong answers of the largest loss, against all losses sorted."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from alexnet.inference.mistakes import draw_mistakes
from alexnet.mistakes import COUNT, Mistake, worst_of


def test_the_worst_of_all_batches() -> None:
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(200, 5, generator=draw) * 3
    labels = torch.randint(0, 5, (200,), generator=draw)
    images = torch.arange(200, dtype=torch.uint8)[:, None, None, None].expand(200, 3, 4, 4)
    worst: list[Mistake] = []
    for start in range(0, 200, 7):
        batch = slice(start, start + 7)
        worst = worst_of(worst, images[batch], scores[batch], labels[batch])
    losses = cross_entropy(scores, labels, reduction="none")
    order = [i for i in losses.argsort(descending=True).tolist() if scores[i].argmax() != labels[i]]
    assert [int(mistake.image[0, 0, 0]) for mistake in worst] == order[:COUNT]
    assert [mistake.true for mistake in worst] == labels[order[:COUNT]].tolist()
    assert [mistake.predicted for mistake in worst] == scores[order[:COUNT]].argmax(1).tolist()
    np.testing.assert_allclose([one.confidence for one in worst], scores[order[:COUNT]].softmax(1).amax(1), rtol=1e-6)


def test_right_answers_are_none() -> None:
    scores = torch.eye(4)
    assert worst_of([], torch.zeros(4, 1, 2, 2, dtype=torch.uint8), scores, torch.arange(4)) == []


def test_the_figure(tmp_path: Path) -> None:
    """Of few and of many, in grey and in colour."""
    for channels, count in ((1, 1), (3, 16)):
        mistakes = [Mistake(1.0, torch.zeros(channels, 8, 8, dtype=torch.uint8), 0, 1, 0.9)] * count
        draw_mistakes(tmp_path / str(count), "a $network$", ["cat", "dog"], mistakes)
        assert Image.open(tmp_path / f"{count}.png").width > 600
