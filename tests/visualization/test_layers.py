"""The drawing of a network's layers, by what is written in it."""

import pytest
from matplotlib.figure import Figure
from torch import nn

from alexnet.models import AlexNet
from alexnet.visualization.layers import draw_layers


def labels(figure: Figure) -> list[str]:
    (axes,) = figure.axes
    return [text.get_text().replace("\n", " ") for text in axes.texts]


def test_the_slides_layers() -> None:
    """As the lecture has them, one box each: of three faces."""
    figure = draw_layers(AlexNet(1000, width=0.0625), (3, 227, 227))
    assert [label.split()[0] for label in labels(figure)] == [
        *("input", "conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5", "fc6", "fc7", "fc8"),
    ]
    assert labels(figure)[:3] == ["input 3 x 227 x 227", "conv1 6 x 55 x 55", "pool1 6 x 27 x 27"]
    assert labels(figure)[-1] == "fc8 1000"
    assert len(figure.axes[0].patches) == 3 * 12


def test_boxes_shrink_with_the_maps_and_never_overlap() -> None:
    figure = draw_layers(AlexNet(10, width=0.25), (3, 227, 227))
    fronts = [patch.get_path().get_extents() for patch in figure.axes[0].patches[::3]]
    sides = [patch.get_path().get_extents() for patch in figure.axes[0].patches[2::3]]
    convolutions = [box.height for box in fronts[:9]]
    assert convolutions == sorted(convolutions, reverse=True)
    assert all(side.x1 < front.x0 for side, front in zip(sides, fronts[1:], strict=False))


@pytest.mark.parametrize("network", [nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), nn.Conv2d(1, 2, 3)])
def test_any_module(network: nn.Module) -> None:
    assert len(labels(draw_layers(network, (1, 8, 8)))) == 2
