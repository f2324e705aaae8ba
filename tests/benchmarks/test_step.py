import torch
from torch import nn

from alexnet.benchmarks.script import transcription
from alexnet.benchmarks.step import flops, measure
from alexnet.models import AlexNet
from tests.conftest import slow


@slow
def test_each_peer_is_measured() -> None:
    rows = list(measure(batch=1, rounds=1, width=1 / 16))
    *rates, memory = rows
    assert [row.name for row in rates] == ["step_vs_transcription", "step_vs_torchvision", "lrn_cost"]
    assert all(row.ours > 0 and row.baseline > 0 and row.limit_share > 0 for row in rates)
    assert memory.name == "peak_memory"
    assert all(100 < peak < 2000 for peak in (memory.ours, memory.baseline)), "torch alone takes some 300 MB"


def test_the_transcription_is_the_same_network() -> None:
    baseline, ours = transcription(1 / 16), AlexNet(width=1 / 16)
    mine, its = (
        [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        for network in (ours, baseline)
    )
    for a, b in zip(mine, its, strict=True):
        b.load_state_dict(a.state_dict())
    x = 50 * torch.randn(2, 3, 227, 227)
    torch.testing.assert_close(baseline.eval()(x), ours.eval()(x), rtol=1e-4, atol=1e-4)


def test_flops_of_a_step_by_hand() -> None:
    conv1, rest = 2 * 96 * 55 * 55 * 363, 1_448_813_632 - 2 * 96 * 55 * 55 * 363
    assert flops(AlexNet()) == 2 * conv1 + 3 * rest
