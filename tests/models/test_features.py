"""The last hidden layer of networks of all kinds, against what they compute by hand."""

import pytest
import torch
from torch import Tensor, nn

from alexnet.models.features import capture_features

IMAGES = torch.rand(4, 3, 14, 14, generator=torch.Generator().manual_seed(0))


class Patches(nn.Module):
    """Classifies every patch; the head is defined first, and the mean comes last."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.first = nn.Linear(8, 5), nn.Conv2d(3, 8, 7, 7)

    def hidden(self, x: Tensor) -> Tensor:
        return self.first(x).flatten(2).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x)).mean(1)


class HeadFirst(nn.Module):
    """Its last layer is defined before the others, and one is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.first, self.never = nn.Linear(6, 5), nn.Linear(588, 6), nn.Linear(6, 6)

    def hidden(self, x: Tensor) -> Tensor:
        return self.first(x.flatten(1)).relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x))


class PlacesFirst(Patches):
    """Its linear layer gets no row for each image: (places, N, D)."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x).transpose(0, 1)[:3]).mean(0)


@pytest.mark.parametrize("network", [Patches(), HeadFirst()])
def test_what_the_last_linear_layer_is_given(network: Patches | HeadFirst) -> None:
    with capture_features(network) as features:
        network(IMAGES)
        network(IMAGES[:2])
    assert [len(batch) for batch in features] == [4, 2]
    torch.testing.assert_close(features[0], network.hidden(IMAGES).detach().flatten(1))
    network(IMAGES)
    assert len(features) == 2, "nothing is collected after it"


@pytest.mark.parametrize(
    "network", [PlacesFirst(), nn.Sequential(nn.Conv2d(3, 5, 14), nn.Flatten())], ids=["places", "convolution"]
)
def test_a_network_without_a_row_for_each_image(network: nn.Module) -> None:
    with capture_features(network) as features:
        network(IMAGES)
    assert not features
