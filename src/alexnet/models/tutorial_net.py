"""The network of PyTorch's CIFAR-10 tutorial, in the slides' two ways of stacking layers."""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn.functional import relu

from alexnet.models.base import Network, check_input
from alexnet.validation import check_choice, check_int


class Define(nn.Module):
    """Names its layers, and calls them in `forward`, which may do anything."""

    def __init__(self, num_classes: int, in_channels: int, side: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(relu(self.conv1(x)))
        x = self.pool(relu(self.conv2(x)))
        x = x.flatten(1)
        x = relu(self.fc1(x))
        x = relu(self.fc2(x))
        x = self.fc3(x)
        return x


class Order(nn.Sequential):
    """Gives its layers in order to nn.Sequential, and needs no `forward`."""

    def __init__(self, num_classes: int, in_channels: int, side: int) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(in_channels, 6, 5),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2, 2),
                conv2=nn.Conv2d(6, 16, 5),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2, 2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(16 * side * side, 120),
                relu3=nn.ReLU(),
                fc2=nn.Linear(120, 84),
                relu4=nn.ReLU(),
                fc3=nn.Linear(84, num_classes),
            )
        )


class TutorialNet(Network):
    """Two convolutions and three fully connected layers, with PyTorch's own initial weights.

    Args:
        num_classes: number of outputs.
        in_channels: channels of the input.
        image_size: height and width of the input, 32 in the tutorial.
        style: define or order. It is the same network, with the same keys and, by the same seed, the same weights.

    Input (N, in_channels, image_size, image_size), output (N, num_classes) logits.

    Raises:
        ArgumentError: for a value that fits no layer.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, *, style: str = "define"
    ) -> None:
        super().__init__()
        check_int("num_classes", num_classes, 1)
        self.input_shape = (
            check_int("in_channels", in_channels, 1),
            check_int("image_size", image_size, 16),
            image_size,
        )
        net = {"define": Define, "order": Order}[check_choice("style", style, ("define", "order"))]
        self.variant = {}
        self.net = net(num_classes, in_channels, ((image_size - 4) // 2 - 4) // 2)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.input_shape)
        logits: Tensor = self.net(x)
        return logits
