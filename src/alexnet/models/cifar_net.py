"""The small CIFAR-10 network of the paper's claim about ReLU."""

from collections.abc import Sequence
from functools import partial

from torch import nn

from alexnet.errors import ArgumentError
from alexnet.models.base import ACTIVATIONS, Network, sequential
from alexnet.models.init import init_weights, kaiming
from alexnet.models.lrn import WINDOWS, make_norm
from alexnet.validation import check_bool, check_choice, check_int


class CifarNet(Network):
    """Three convolutions of 5x5 and one fully connected layer: cuda-convnet's layers-18pct.cfg.

    It is Krizhevsky's own for 18% of error. The paper prints no layers of its network of figure 1. That of section 3.3,
    with 13% of error and with LRN 11%, is ConvLocalNet.

    Args:
        num_classes: number of outputs.
        in_channels: channels of the input.
        image_size: height and width of the input; 24 are cut out of CIFAR's 32.
        channels: of conv1, conv2 and conv3; by the file 32, 32 and 64.
        lrn: local response normalisation after the first and the second pooling.
        lrn_size, lrn_alpha, lrn_beta, lrn_k, lrn_divide_alpha, lrn_window: its constants; by the file 3 x 3 places of
            the same map. See LocalResponseNorm.
        batch_norm: batch normalisation after each convolution (Ioffe and Szegedy, ICML 2015), which the file has not.
        activation: relu, tanh or sigmoid.
        overlapping_pooling: windows of 3x3 with stride 2, the last of which may hang over the edge; 2x2 if False, which
            gives the same shapes.
        init: kaiming: N(0, sqrt(2 / fan_in)). 2012: by the file N(0, 1e-4) in conv1 and N(0, 0.01) after, which suits
            values from 0 to 255 (data.normalize=mean_image). No bias in either.

    Input (N, in_channels, image_size, image_size), output (N, num_classes) logits.

    Raises:
        ArgumentError: for a value that fits no layer.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 24,
        *,
        channels: Sequence[int] = (32, 32, 64),
        lrn: bool = True,
        lrn_size: int = 3,
        lrn_alpha: float = 5e-5,
        lrn_beta: float = 0.75,
        lrn_k: float = 1.0,
        lrn_divide_alpha: bool = True,
        lrn_window: str = "map",
        batch_norm: bool = False,
        activation: str = "relu",
        overlapping_pooling: bool = True,
        init: str = "kaiming",
    ) -> None:
        super().__init__()
        check_int("num_classes", num_classes, 1)
        self.input_shape = (
            check_int("in_channels", in_channels, 1),
            check_int("image_size", image_size, 8),
            image_size,
        )
        if not isinstance(channels, Sequence) or len(channels) != 3:
            raise ArgumentError(f"channels={channels}: must be three whole numbers, such as [32,32,64]")
        one, two, three = (check_int("channels", count, 1) for count in channels)
        act = ACTIVATIONS[check_choice("activation", activation, ACTIVATIONS)]
        overlap = check_bool("overlapping_pooling", overlapping_pooling)
        max_pool, mean_pool = (
            partial(kind, 3, 2, ceil_mode=True) if overlap else partial(kind, 2)
            for kind in (nn.MaxPool2d, nn.AvgPool2d)
        )
        side = image_size // 2 // 2 // 2
        check_choice("lrn_window", lrn_window, WINDOWS)
        constants = {
            "size": lrn_size,
            "alpha": lrn_alpha,
            "beta": lrn_beta,
            "k": lrn_k,
            "divide_alpha": lrn_divide_alpha,
            "window": lrn_window,
        }
        norm = make_norm(**constants)
        has_norm = check_bool("lrn", lrn)
        norm1, norm2 = (norm(), norm()) if has_norm else (None, None)
        bn1, bn2, bn3 = map(nn.BatchNorm2d, channels) if check_bool("batch_norm", batch_norm) else (None, None, None)
        rule = {"kaiming": kaiming, "2012": _file}[check_choice("init", init, ("kaiming", "2012"))]
        self.features = sequential(  #                        in_channels x 24 x 24
            conv1=nn.Conv2d(in_channels, one, 5, padding=2),  #        32 x 24 x 24
            bn1=bn1,
            pool1=max_pool(),  #                                       32 x 12 x 12
            act1=act(),
            norm1=norm1,
            conv2=nn.Conv2d(one, two, 5, padding=2),  #                32 x 12 x 12
            bn2=bn2,
            act2=act(),
            pool2=mean_pool(),  #                                      32 x  6 x  6
            norm2=norm2,
            conv3=nn.Conv2d(two, three, 5, padding=2),  #              64 x  6 x  6
            bn3=bn3,
            act3=act(),
            pool3=mean_pool(),  #                                      64 x  3 x  3
        )
        self.classifier = sequential(flatten=nn.Flatten(), fc4=nn.Linear(three * side * side, num_classes))
        init_weights(self, rule)
        self.variant = {"activation": activation, "overlapping_pooling": overlap, "lrn": lrn}
        if lrn:
            self.variant |= {f"lrn_{name}": value for name, value in constants.items()}
        if batch_norm:  # older checkpoints do not have it
            self.variant["batch_norm"] = True


def _file(name: str, layer: nn.Module) -> tuple[float, float]:
    return (1e-4 if name.endswith("conv1") else 0.01), 0.0
