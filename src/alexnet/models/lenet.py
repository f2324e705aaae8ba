"""LeNet-5 (LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 1998), as the slides draw it."""

from torch import nn

from alexnet.models.base import ACTIVATIONS, Network, sequential
from alexnet.models.init import init_weights, kaiming
from alexnet.validation import check_choice, check_int


class LeNet(Network):
    """Three convolutions of 5x5, the first two with subsampling, and two fully connected layers.

    Args:
        num_classes: number of outputs.
        in_channels: channels of the input.
        image_size: height and width of the input, 32 in the slides.
        activation: sigmoid, as the slides tell it, tanh or relu; after each convolution and after F6.

    Subsampling is the mean of 2x2 pixels; LeNet's own multiplied it by a number and added another, learnt for each map.
    Its C3 saw some of the six maps in each of its own, and here all of them. Weights start from N(0, sqrt(2 / fan_in)),
    biases from 0, whatever the activation.

    Input (N, in_channels, image_size, image_size), output (N, num_classes) logits.

    Raises:
        ArgumentError: for a value that fits no layer.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 32,
        *,
        activation: str = "sigmoid",
    ) -> None:
        super().__init__()
        check_int("num_classes", num_classes, 1)
        self.input_shape = (
            check_int("in_channels", in_channels, 1),
            check_int("image_size", image_size, 32),
            image_size,
        )
        act = ACTIVATIONS[check_choice("activation", activation, ACTIVATIONS)]
        side = ((image_size - 4) // 2 - 4) // 2 - 4
        self.features = sequential(  #              in_channels x 32 x 32
            conv1=nn.Conv2d(in_channels, 6, 5),  #            6 x 28 x 28
            act1=act(),
            subsample2=nn.AvgPool2d(2),  #                    6 x 14 x 14
            conv3=nn.Conv2d(6, 16, 5),  #                    16 x 10 x 10
            act3=act(),
            subsample4=nn.AvgPool2d(2),  #                   16 x  5 x  5
            conv5=nn.Conv2d(16, 120, 5),  #                 120 x  1 x  1
            act5=act(),
        )
        self.classifier = sequential(
            flatten=nn.Flatten(),
            fc6=nn.Linear(120 * side * side, 84),
            act6=act(),
            output=nn.Linear(84, num_classes),
        )
        init_weights(self, kaiming)
        self.variant = {"activation": activation}
