"""AlexNet (Krizhevsky, Sutskever and Hinton, NIPS 2012), with a toggle for every part that the paper argues for."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from alexnet.errors import ArgumentError
from alexnet.models.base import ACTIVATIONS, Network, sequential
from alexnet.models.init import init_weights, kaiming
from alexnet.models.lrn import LocalResponseNorm, make_norm
from alexnet.models.two_gpu import check_devices, split
from alexnet.validation import check_bool, check_choice, check_float, check_int

# Kernels of each convolution and units of each fully connected layer (section 3.5): of both GPUs together, and of the
# one-GPU network that the paper compares with (section 3.2).
TWO_GPUS = {"conv1": 96, "conv2": 256, "conv3": 384, "conv4": 384, "conv5": 256, "fc6": 4096, "fc7": 4096}
ONE_GPU = {"conv1": 48, "conv2": 128, "conv3": 192, "conv4": 192, "conv5": 256, "fc6": 4096, "fc7": 4096}

# Kernel size, stride, padding, and whether a layer sees the maps of both towers (figure 2).
CONVOLUTIONS = {
    "conv1": (11, 4, 0, True),  # in_channels x 227 x 227 to  96 x 55 x 55
    "conv2": (5, 1, 2, False),  #         96 x  27 x  27 to 256 x 27 x 27
    "conv3": (3, 1, 1, True),  #         256 x  13 x  13 to 384 x 13 x 13
    "conv4": (3, 1, 1, False),  #        384 x  13 x  13 to 384 x 13 x 13
    "conv5": (3, 1, 1, False),  #        384 x  13 x  13 to 256 x 13 x 13, and 256 x 6 x 6 after pooling
}

# What follows each convolution, in this order: activation, normalisation, the second normalisation of 2012, pooling.
FOLLOWING = {
    "paper": {  # section 3.5
        "conv1": ("act", "norm", "pool"),
        "conv2": ("act", "norm", "map", "pool"),
        "conv3": ("act",),
        "conv4": ("act",),
        "conv5": ("act", "pool"),
    },
    "2012": {  # layers-145.cfg
        "conv1": ("norm", "pool", "act"),
        "conv2": ("act", "norm", "map", "pool"),
        "conv3": ("act",),
        "conv4": ("act",),
        "conv5": ("pool", "act"),
    },
}
# layers-145.cfg, cnorm2: over 5x5 places of the same map, alpha divided by 25, and no k but 1
MAP_NORM = partial(LocalResponseNorm, 5, 1e-3, 0.75, 1.0, window="map")


def _paper(name: str, layer: nn.Module) -> tuple[float, float]:
    return 0.01, float(name.split(".")[-1] in ("conv2", "conv4", "conv5", "fc6", "fc7"))


def _source(name: str, layer: nn.Module) -> tuple[float, float]:
    std, bias = _paper(name, layer)
    return (0.03 if name.split(".")[-1] in ("conv3", "conv4", "conv5") else std), bias


INITIAL_WEIGHTS = {"kaiming": kaiming, "paper": _paper, "2012": _source}


class AlexNet(Network):
    """Five convolutions and three fully connected layers (paper, section 3.5 and figure 2).

    Args:
        num_classes: number of outputs.
        in_channels: channels of the input; 3 in the paper.
        image_size: height and width of the input, 227 in the slides (the paper's text prints 224, but its own
            arithmetic needs 227).
        lrn: local response normalisation after the first and the second convolution (section 3.3).
        lrn_size, lrn_alpha, lrn_beta, lrn_k: its constants.
        lrn_divide_alpha: divide alpha by the number of values in the window, as the 2012 source does and torch; the
            paper's formula does not.
        lrn_window: channels: neighbouring channels of the whole layer. tower: of the same tower, as each of the two
            GPUs did. own: the slides' simplified form, each channel's own square in place of its neighbours'. map: a
            square of the same map, the 2012 source's second kind.
        batch_norm: batch normalisation after each convolution, which is later than the paper (Ioffe and Szegedy, ICML
            2015).
        dropout: probability of dropping a unit of fc6 and of fc7 (section 4.2); 0 or False turns it off.
        groups: number of towers in conv2, conv4 and conv5 (section 3.2): 2 on the paper's two GPUs, 1 for one network
            whose layers see everything.
        activation: relu, tanh or sigmoid (section 3.1).
        overlapping_pooling: max pooling over 3x3 windows with stride 2 (section 3.4); 2x2 with stride 2 if False,
            which gives the same shapes.
        width: multiplies the channels of every hidden layer.
        init: kaiming: N(0, sqrt(2 / fan_in)) and no bias, whatever the activation. paper: N(0, 0.01), and biases of
            1 in conv2, conv4, conv5, fc6 and fc7 (section 5), which needs many epochs before the loss moves. 2012: the
            same with N(0, 0.03) in conv3, conv4 and conv5.
        order: paper: activation, normalisation, pooling (section 3.5). 2012: normalisation, pooling, activation after
            conv1, and pooling, activation after conv5, which comes to the same.
        map_norm: a second normalisation after conv2, over 5x5 places of the same map (2012).
        partial_windows: windows of conv1 may hang over the right and the lower edge, so that 224 pixels give 55 (2012).
        half: the one-GPU network that the paper compares with (section 3.2): half as many kernels in conv1 to conv4.
        remove: conv3, conv4 or conv5, to see what depth is worth (section 7).
        devices: two, one for each tower (section 3.2), such as ["cuda:0", "cuda:1"]; None: the network is undivided. It
            is the same network, mask for mask, and its state dict too. Wherever it is moved, its towers stay.

    What says 2012 is from layers-145.cfg of the source that the Computer History Museum published.

    Input (N, in_channels, image_size, image_size), output (N, num_classes) logits.

    Raises:
        ArgumentError: for a value that fits no layer; it names the layer and says what is allowed.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: int = 227,
        *,
        lrn: bool = True,
        lrn_size: int = 5,
        lrn_alpha: float = 1e-4,
        lrn_beta: float = 0.75,
        lrn_k: float = 2.0,
        lrn_divide_alpha: bool = False,
        lrn_window: str = "channels",
        batch_norm: bool = False,
        dropout: float = 0.5,
        groups: int = 2,
        activation: str = "relu",
        overlapping_pooling: bool = True,
        width: float = 1.0,
        init: str = "kaiming",
        order: str = "paper",
        map_norm: bool = False,
        partial_windows: bool = False,
        half: bool = False,
        remove: str | None = None,
        devices: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        check_int("num_classes", num_classes, 1)
        check_int("in_channels", in_channels, 1)
        self.input_shape = (in_channels, image_size, image_size)
        p = check_float("dropout", dropout, 0, 0.99, allow_false=True)
        act = ACTIVATIONS[check_choice("activation", activation, ACTIVATIONS)]
        window = 3 if check_bool("overlapping_pooling", overlapping_pooling) else 2
        check_float("width", width, 0, 100, exclusive_min=True)
        check_choice("init", init, INITIAL_WEIGHTS)
        check_int("groups", groups, 1)
        check_choice("lrn_window", lrn_window, ("channels", "tower", "own", "map"))
        constants = {"size": lrn_size, "alpha": lrn_alpha, "beta": lrn_beta, "k": lrn_k}
        towers = groups if lrn_window == "tower" else 1
        window_of = "channels" if lrn_window == "tower" else lrn_window
        norm = make_norm(**constants, divide_alpha=lrn_divide_alpha, window=window_of, groups=towers)
        check_choice("order", order, FOLLOWING)
        check_bool("lrn", lrn)
        check_bool("map_norm", map_norm)
        check_bool("batch_norm", batch_norm)
        if remove is not None:
            check_choice("remove", remove, ("conv3", "conv4", "conv5"))
        if check_bool("half", half) and groups != 1:
            raise ArgumentError(f"half=true: is the network of one GPU, so groups={groups} must be 1")
        if devices is not None:
            _check_two_devices(devices, groups, lrn=lrn, lrn_window=lrn_window, batch_norm=batch_norm)

        channels = _scale_channels(width, half=half)
        check_int("image_size", image_size, 1)
        over = -(image_size - 11) % 4 if check_bool("partial_windows", partial_windows) else 0
        side = _side_of_pool5(image_size, over, window)
        layers: dict[str, Callable[[], nn.Module]] = {"act": act, "pool": partial(nn.MaxPool2d, window, stride=2)}
        if lrn:
            layers["norm"] = norm
        if lrn and map_norm:
            layers["map"] = MAP_NORM
        with torch.device("meta"):  # shapes only: the weights are drawn once, below
            features, last = _make_features(
                in_channels,
                channels,
                groups,
                layers,
                over=over,
                order=order,
                remove=remove,
                batch_norm=batch_norm,
            )
            self.features = sequential(**features)
            self.classifier = _make_classifier(last * side * side, channels, num_classes, act, p)
        init_weights(self, INITIAL_WEIGHTS[init])
        self.divided = devices is not None
        if devices is not None:
            self.features, self.classifier = split(self.features, self.classifier, devices)

        # What the weights alone do not show: a network without LRN has the same keys and shapes as one with it.
        self.variant = {"activation": activation, "overlapping_pooling": overlapping_pooling, "lrn": lrn}
        if lrn:
            self.variant |= {f"lrn_{name}": value for name, value in constants.items()}
        if lrn and (lrn_divide_alpha, lrn_window) != (False, "channels"):  # older checkpoints do not have them
            self.variant |= {"lrn_divide_alpha": lrn_divide_alpha, "lrn_window": lrn_window}
        others = {
            "order": order,
            "map_norm": map_norm and lrn,
            "partial_windows": partial_windows,
            "batch_norm": batch_norm,
        }
        self.variant |= {key: value for key, value in others.items() if value not in ("paper", False)}

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "AlexNet":  # noqa: FBT001, FBT002 (torch's)
        if not self.divided:
            return super()._apply(fn, recurse)
        return super()._apply(lambda tensor: fn(tensor).to(tensor.device), recurse)


def _make_features(
    in_channels: int,
    channels: Mapping[str, int],
    groups: int,
    layers: Mapping[str, Callable[[], nn.Module]],
    *,
    over: int,
    order: str,
    remove: str | None,
    batch_norm: bool,
) -> tuple[dict[str, nn.Module], int]:
    """Returns the convolutions by name, each with the layers that follow it, and the number of channels of the last.

    Args:
        in_channels: of the input.
        channels: of each convolution.
        groups: towers.
        layers: what makes a layer of each kind in FOLLOWING; a kind that is not there is left out.
        over: by how many pixels windows of conv1 hang over the right and the lower edge.
        order: a key of FOLLOWING.
        remove: the name of a convolution that is left out.
        batch_norm: a batch normalisation follows each convolution.
    """
    features: dict[str, nn.Module] = {}
    if over:
        features["edge"] = nn.ZeroPad2d((0, over, 0, over))
    before = in_channels
    for number, (name, (kernel, stride, padding, sees_both)) in enumerate(CONVOLUTIONS.items(), 1):
        if name != remove:
            own_groups = 1 if sees_both else groups
            if math.gcd(before, channels[name]) % own_groups:
                raise ArgumentError(
                    f"groups={groups}: {name} has {before} input and {channels[name]} output channels, and groups must "
                    "divide both"
                )
            features[name] = nn.Conv2d(before, channels[name], kernel, stride, padding, groups=own_groups)
            before = channels[name]
            if batch_norm:
                features[f"bn{number}"] = nn.BatchNorm2d(before)
        for kind in FOLLOWING[order][name]:
            if kind in layers and not (kind == "act" and name == remove):
                features[f"{kind}{number}"] = layers[kind]()
    return features, before


def _make_classifier(
    inputs: int, channels: Mapping[str, int], num_classes: int, act: Callable[[], nn.Module], dropout: float
) -> nn.Sequential:
    drop6, drop7 = (nn.Dropout(dropout), nn.Dropout(dropout)) if dropout else (None, None)
    return sequential(
        flatten=nn.Flatten(),
        fc6=nn.Linear(inputs, channels["fc6"]),
        act6=act(),
        drop6=drop6,
        fc7=nn.Linear(channels["fc6"], channels["fc7"]),
        act7=act(),
        drop7=drop7,
        fc8=nn.Linear(channels["fc7"], num_classes),
    )


def _scale_channels(width: float, *, half: bool) -> dict[str, int]:
    channels = ONE_GPU if half else TWO_GPUS
    scaled = {name: round(width * count) for name, count in channels.items()}
    if min(scaled.values()) < 1:
        least = f"at least {0.5 / min(channels.values()):.2g} is needed"
        conv1 = f"conv1 {scaled['conv1']} of its {channels['conv1']} channels"
        raise ArgumentError(f"width={width:g}: leaves {conv1}; {least}")
    return scaled


def _check_two_devices(devices: Sequence[str], groups: int, *, lrn: bool, lrn_window: str, batch_norm: bool) -> None:
    check_devices(devices)
    if batch_norm:
        raise ArgumentError("batch_norm=true: not with devices, which halve the paper's layers alone")
    if groups != 2:
        raise ArgumentError(f"groups={groups}: must be 2 with devices, one for each tower")
    if lrn and lrn_window in ("channels", "own"):
        raise ArgumentError(f"lrn_window={lrn_window}: looks into the other tower; with devices, choose tower")


def _side_of_pool5(image_size: int, over: int, pool: int) -> int:
    """Returns the side of pool5's output. Raises ArgumentError naming the first layer whose input is too small."""
    side = image_size + over
    for layer, window, stride in (("conv1", 11, 4), ("pool1", pool, 2), ("pool2", pool, 2), ("pool5", pool, 2)):
        if side < window:
            least = 67 if pool == 3 else 39
            raise ArgumentError(
                f"image_size={image_size}: {layer} would get {side}x{side} pixels, fewer than its {window}x{window} "
                f"window; at least {least} are needed"
            )
        side = (side - window) // stride + 1
    return side
