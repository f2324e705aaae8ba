"""torchvision's AlexNet, the later network of "One weird trick" (Krizhevsky 2014).

It is narrower, without towers and without local response normalisation.
"""

from torch import Tensor, nn
from torchvision.models import AlexNet

from alexnet.models.base import check_input
from alexnet.models.baselines import start_from
from alexnet.validation import check_float, check_int

LEAST = 63  # pixels that leave the last pooling something


class TorchvisionAlexNet(AlexNet):
    """torchvision.models.alexnet for any input size, with the same keys, so that its weights fit.

    Args:
        num_classes: number of outputs.
        in_channels: channels of the input.
        image_size: height and width of the input; 224 in torchvision.
        dropout: probability of dropping an input of the first and of the second linear layer; 0 or False turns it off.
        weights: IMAGENET1K_V1 starts from torchvision's, which are downloaded once into torch.hub's folder; or a file
            of such weights, as torch.save has written it. A run normalises its images as theirs were.
        new_head: the last layer is re-initialised, for other classes than those of the weights.

    Input (N, in_channels, image_size, image_size), output (N, num_classes) logits.

    Raises:
        ArgumentError: for a value out of range, for weights and an input that do not fit, and without a network.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: int = 224,
        *,
        dropout: float = 0.5,
        weights: str | None = None,
        new_head: bool = False,
    ) -> None:
        p = check_float("dropout", dropout, 0, 0.99, allow_false=True)
        super().__init__(check_int("num_classes", num_classes, 1), p)
        self.input_shape = (in_channels, check_int("image_size", image_size, LEAST), image_size)
        if check_int("in_channels", in_channels, 1) != 3:
            self.features[0] = nn.Conv2d(in_channels, 64, 11, stride=4, padding=2)
        start_from(self, weights, "alexnet", new_head=new_head, in_channels=in_channels)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.input_shape)
        return super().forward(x)
