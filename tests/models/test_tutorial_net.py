from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from alexnet.models import TutorialNet
from alexnet.models.init import with_named_seeds


class Slides(nn.Module):
    """Word for word."""

    def __init__(self):
        super(Slides, self).__init__()  # noqa: UP008
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = x.view(-1, 16 * 5 * 5)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        return x


def test_both_styles_are_the_slides_network() -> None:
    x, found = torch.randn(4, 3, 32, 32), []
    for make in (Slides, lambda: TutorialNet(style="define"), lambda: TutorialNet(style="order")):
        torch.manual_seed(5)
        found.append(make()(x))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[1], found[2])


def test_styles_are_interchangeable() -> None:
    """Weights fit both ways, and a run draws the same for both."""
    define, order = (
        with_named_seeds(lambda style=style: TutorialNet(7, 1, 28, style=style), 3) for style in ("define", "order")
    )
    assert define.state_dict().keys() == order.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(define.parameters(), order.parameters(), strict=True))
    x = torch.randn(2, 1, 28, 28)
    other = TutorialNet(7, 1, 28, style="order")
    other.load_state_dict(define.state_dict())
    assert torch.equal(other(x), define(x))
    assert torch.equal(order(x), define(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"image_size": 15}, "image_size=15: must be a whole number of at least 16"), ({"style": "sort"}, "style=sort"),
     ({"num_classes": True}, "num_classes=True"), ({"in_channels": 0}, "in_channels=0")],
)  # fmt: skip
def test_values_that_fit_no_layer(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TutorialNet(**arguments)
    assert TutorialNet(image_size=16)(torch.zeros(1, 3, 16, 16)).shape == (1, 10), "the smallest"
