"""The CIFAR-10 network of the paper's claim about response normalisation: 13% of error without it, 11% with it."""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from alexnet.models.base import ACTIVATIONS, Network, sequential
from alexnet.models.init import init_weights, kaiming
from alexnet.models.lrn import WINDOWS, make_norm
from alexnet.validation import check_bool, check_choice, check_int


class LocallyConnected2d(nn.Module):
    """A convolution with a different kernel at every place of its output, which has the input's height and width.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        size: height and width of the input in pixels.
        kernel_size: side of a window, odd. The input is padded with zeros, so that there is one around every place.

    Attributes:
        weight: (size * size, kernel_size**2 * in_channels, out_channels): of each place its kernel, row by row.
        bias: (size * size * out_channels,), in one dimension, as all biases, by which optimisers know them.

    Input (N, in_channels, size, size), output (N, out_channels, size, size).
    """

    def __init__(self, in_channels: int, out_channels: int, size: int, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size, self.size = kernel_size, size
        self.fan_in = in_channels * kernel_size**2
        self.weight = nn.Parameter(torch.empty(size * size, self.fan_in, out_channels))
        self.bias = nn.Parameter(torch.empty(size * size * out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws from U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)), as nn.Conv2d does."""
        bound = 1 / math.sqrt(self.fan_in)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        edge = self.kernel_size // 2
        padded = pad(x.permute(2, 3, 0, 1), (0, 0, 0, 0, edge, edge, edge, edge))  # (height, width, N, in_channels)
        shifts = range(self.kernel_size)
        shifted = [padded[i : i + self.size, j : j + self.size] for i in shifts for j in shifts]
        windows = torch.cat(shifted, -1).flatten(0, 1)  # (places, N, fan_in)
        y = torch.bmm(windows, self.weight) + self.bias.view(len(self.weight), 1, -1)
        return y.unflatten(0, (self.size, self.size)).permute(2, 3, 0, 1)

    def extra_repr(self) -> str:
        return f"{self.fan_in // self.kernel_size**2}, {self.weight.shape[2]}, {self.size}, {self.kernel_size}"


class ConvLocalNet(Network):
    """Two convolutions, two locally connected layers and one fully connected layer.

    They are cuda-convnet's layers-conv-local-11pct.cfg, and without LRN layers-conv-local-13pct.cfg, Krizhevsky's own
    for 11% and 13% of error on CIFAR-10, which is what section 3.3 of the paper says of "a four-layer CNN" with and
    without LRN.

    Args:
        num_classes: number of outputs.
        in_channels: channels of the input.
        image_size: height and width of the input; 24 are cut out of CIFAR's 32.
        lrn: local response normalisation after the first and the second convolution.
        lrn_size, lrn_alpha, lrn_beta, lrn_k, lrn_divide_alpha, lrn_window: its constants, by the file. See
            LocalResponseNorm.
        activation: relu, tanh or sigmoid.
        overlapping_pooling: windows of 3x3 with stride 2, the last of which may hang over the edge; 2x2 if False, which
            gives the same shapes.
        init: kaiming: N(0, sqrt(2 / fan_in)). 2012: by the file N(0, 1e-4) in conv1, N(0, 0.04) in local3 and local4,
            and N(0, 0.01) in the others, which suits values from 0 to 255 (data.normalize=mean_image). No bias.

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
        lrn: bool = True,
        lrn_size: int = 5,
        lrn_alpha: float = 1e-3,
        lrn_beta: float = 0.75,
        lrn_k: float = 1.0,
        lrn_divide_alpha: bool = True,
        lrn_window: str = "channels",
        activation: str = "relu",
        overlapping_pooling: bool = True,
        init: str = "kaiming",
    ) -> None:
        super().__init__()
        check_int("num_classes", num_classes, 1)
        self.input_shape = (
            check_int("in_channels", in_channels, 1),
            check_int("image_size", image_size, 4),
            image_size,
        )
        act = ACTIVATIONS[check_choice("activation", activation, ACTIVATIONS)]
        overlap = check_bool("overlapping_pooling", overlapping_pooling)
        pool = partial(nn.MaxPool2d, 3, 2, ceil_mode=True) if overlap else partial(nn.MaxPool2d, 2)
        side = image_size // 2 // 2
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
        norm1, norm2 = (norm(), norm()) if check_bool("lrn", lrn) else (None, None)
        rule = {"kaiming": kaiming, "2012": _file}[check_choice("init", init, ("kaiming", "2012"))]
        self.features = sequential(  #                       in_channels x 24 x 24
            conv1=nn.Conv2d(in_channels, 64, 5, padding=2),  #        64 x 24 x 24
            act1=act(),
            norm1=norm1,
            pool1=pool(),  #                                          64 x 12 x 12
            conv2=nn.Conv2d(64, 64, 5, padding=2),  #                 64 x 12 x 12
            act2=act(),
            norm2=norm2,
            pool2=pool(),  #                                          64 x  6 x  6
            local3=LocallyConnected2d(64, 32, side, 3),  #            32 x  6 x  6
            act3=act(),
            local4=LocallyConnected2d(32, 32, side, 3),  #            32 x  6 x  6
            act4=act(),
        )
        self.classifier = sequential(flatten=nn.Flatten(), fc5=nn.Linear(32 * side * side, num_classes))
        init_weights(self, rule, (nn.Conv2d, nn.Linear, LocallyConnected2d))
        self.variant = {"activation": activation, "overlapping_pooling": overlap, "lrn": lrn}
        if lrn:
            self.variant |= {f"lrn_{name}": value for name, value in constants.items()}


def _file(name: str, layer: nn.Module) -> tuple[float, float]:
    if isinstance(layer, LocallyConnected2d):
        return 0.04, 0.0
    return (1e-4 if name.endswith("conv1") else 0.01), 0.0
