from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from alexnet.models import AlexNet
from alexnet.models.summary import summarize, table


def test_parameters_and_flops_of_alexnet() -> None:
    network = AlexNet()
    rows = {row.name.split(".")[-1]: row for row in summarize(network, torch.zeros(1, 3, 227, 227)).rows}
    assert sum(row.parameters for row in rows.values()) == 60_965_224
    by_hand = {  # two for each multiply-add: outputs x weights of one output
        "conv1": 2 * 96 * 55 * 55 * (3 * 11 * 11),
        "conv2": 2 * 256 * 27 * 27 * (48 * 5 * 5),
        "conv3": 2 * 384 * 13 * 13 * (256 * 3 * 3),
        "conv4": 2 * 384 * 13 * 13 * (192 * 3 * 3),
        "conv5": 2 * 256 * 13 * 13 * (192 * 3 * 3),
        "fc6": 2 * 9216 * 4096,
        "fc7": 2 * 4096 * 4096,
        "fc8": 2 * 4096 * 1000,
    }
    assert {name: row.flops for name, row in rows.items() if row.flops} == by_hand
    assert rows["pool5"].shape == (256, 6, 6)
    assert network.training


def test_lrn_costs_no_flops_so_that_its_ablation_compares_the_same_arithmetic() -> None:
    with_lrn, without = (
        summarize(AlexNet(lrn=lrn, width=0.1, groups=1), torch.zeros(1, 3, 227, 227)) for lrn in (True, False)
    )
    assert with_lrn.flops == without.flops == sum(row.flops for row in with_lrn.rows)
    assert len(with_lrn.rows) == len(without.rows) + 2


def test_table_shows_layers_and_the_sum() -> None:
    text = table(summarize(AlexNet(), torch.zeros(1, 3, 227, 227)))
    assert "96 x 55 x 55" in text
    assert "60,965,224" in text.splitlines()[-1]


class Odd(nn.Module):
    """A layer used twice, attention, a parameter of the network's own, and an output that no layer gives."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.head = nn.Conv2d(4, 7, 1)
        self.gate = nn.Parameter(torch.ones(7))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.conv(x))
        tokens = x.flatten(2).mT
        x = x + self.attention(tokens, tokens, tokens)[0].mT.reshape(x.shape)
        return self.head(x).mean((2, 3)) * self.gate


def test_other_networks_by_hand() -> None:
    summary = summarize(Odd(), torch.zeros(1, 4, 5, 5))
    assert summary.shape == (7,)
    assert summary.parameters == (4 * 4 * 9 + 4) + (12 * 4 + 12) + (4 * 4 + 4) + (4 * 7 + 7) + 7
    twice, head = 2 * (2 * 100 * 36), 2 * 7 * 25 * 4
    attention = 2 * 25 * 4 * 12 + 2 * 25 * 4 * 4 + 2 * (2 * 25 * 25 * 4)  # in, out, queries x keys and x values
    assert summary.flops == twice + attention + head
    squeeze = summarize(torchvision.models.squeezenet1_1(num_classes=9), torch.zeros(1, 3, 67, 67))
    assert squeeze.shape == (9,)


def test_an_output_that_is_no_tensor() -> None:
    class Two(nn.Identity):
        def forward(self, x: Tensor) -> Any:
            return x, x

    with pytest.raises(ValueError, match="gives a tuple; a tensor is needed"):
        summarize(Two(), torch.zeros(1, 1, 2, 2))
