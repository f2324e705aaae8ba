"""What docs/ says of the code is so."""

import re
from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig

from alexnet.config import build
from alexnet.models.summary import summarize
from tests.conftest import ROOT

FIDELITY = (ROOT / "docs" / "fidelity.md").read_text()
SIZES = re.findall(r"\| `(.+)` \| (\d) x (\d+) x \d+ \| ([\d,]+) \| ([\d,]+) \|", FIDELITY)


def test_the_tests_that_fidelity_names_are_there() -> None:
    named, path = 0, ""
    for file, name in re.findall(r"((?:\w+/)?test_\w+\.py)?::(test_\w+)", FIDELITY):
        path = file or path
        assert f"def {name}(" in (ROOT / "tests" / path).read_text(), f"{path}::{name}"
        named += 1
    assert named > 25


@pytest.mark.parametrize(("model", "channels", "side", "parameters", "flops"), SIZES, ids=[row[0] for row in SIZES])
def test_sizes(
    model: str, channels: str, side: str, parameters: str, flops: str, config: Callable[..., DictConfig]
) -> None:
    thousand = ["data=imagenet"] if model.startswith("alexnet") else []
    cfg = config(*f"model={model}".split(), *thousand, f"data.channels={channels}", f"data.crop={side}")
    found = summarize(build(cfg, "model"), torch.zeros(1, int(channels), int(side), int(side)))
    assert [f"{found.parameters:,}", f"{found.flops:,}"] == [parameters, flops]


def test_all_sizes_were_read() -> None:
    assert len(SIZES) == 8
