"""torchvision's AlexNet, the later network of "One weird trick" (Krizhevsky 2014): narrower, without towers and without
local response normalisation.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import AlexNet, AlexNet_Weights

from alexnet.checks import integer, number, one_of
from alexnet.models.alexnet import check_input

LEAST = 63  # pixels that leave the last pooling something


class TorchvisionAlexNet(AlexNet):
    """torchvision.models.alexnet for any input, with the same keys, so that its weights fit.

    Args:
        num_classes: number of outputs.
        in_channels: channels of the input.
        image_size: height and width of the input; 224 in torchvision.
        dropout: probability of dropping an input of the first and of the second linear layer; 0 or False turns it off.
        weights: IMAGENET1K_V1 starts from torchvision's, which are downloaded once into torch.hub's folder. Another
            number of classes gets a new last layer. They expect pictures normalised as ImageNet's.

    Input (N, in_channels, image_size, image_size), output (N, num_classes) logits.

    Raises:
        ValueError: for a value out of range, for weights and an input that do not fit, and without a network.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: int = 224,
        *,
        dropout: float = 0.5,
        weights: str | None = None,
    ) -> None:
        p = number("dropout", dropout, 0, 0.99, off=True)
        super().__init__(integer("num_classes", num_classes, 1), p)
        self.input_shape = (in_channels, integer("image_size", image_size, LEAST), image_size)
        if integer("in_channels", in_channels, 1) != 3:
            self.features[0] = nn.Conv2d(in_channels, 64, 11, stride=4, padding=2)
        if weights is not None:
            one_of("weights", weights, AlexNet_Weights.__members__)
            if in_channels != 3:
                raise ValueError(f"weights={weights}: are for 3 channels, and the input has {in_channels}")
            state = _fetched(weights)
            if num_classes != len(state["classifier.6.bias"]):
                state |= {key: value for key, value in self.state_dict().items() if key.startswith("classifier.6.")}
            self.load_state_dict(state)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.input_shape)
        return super().forward(x)


def _fetched(name: str) -> dict[str, Any]:
    known = AlexNet_Weights[name]
    try:
        return dict(known.get_state_dict(progress=True, check_hash=True))
    except (OSError, RuntimeError) as error:
        place = f"{torch.hub.get_dir()}/checkpoints/{known.url.rpartition('/')[2]}"
        raise ValueError(f"weights={name}: cannot be fetched ({error}); put {known.url} at {place}") from error
