import torch

from alexnet.models import AlexNet
from alexnet.models.summary import summarize, table


def test_parameters_and_flops_of_alexnet() -> None:
    network = AlexNet()
    rows = {row.name.split(".")[-1]: row for row in summarize(network, torch.zeros(1, 3, 227, 227))}
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
    assert sum(row.flops for row in with_lrn) == sum(row.flops for row in without)
    assert len(with_lrn) == len(without) + 2


def test_table_shows_layers_and_the_sum() -> None:
    text = table(summarize(AlexNet(), torch.zeros(1, 3, 227, 227)))
    assert "96 x 55 x 55" in text
    assert "60,965,224" in text.splitlines()[-1]
