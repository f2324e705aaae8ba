"""benchmark.py as a user types it; what it measures is tested in tests/benchmarks."""

import platform
import re

import pytest
import torch

from alexnet.cores import has_bfloat16
from tests.conftest import quick, slow


@slow
def test_mistakes() -> None:
    for arguments, message in (
        (("speed",), "speed: must be among lrn, step, data, train, limits, panels, sweep, gpu"),
        (("--photos", "/none"), "no such folder"),
        (("--json", "/none/rows.json"), "--json /none/rows.json: no such folder"),
        (("--plot", "picture.doc"), "--plot picture.doc: must end with .png, .svg or .pdf"),
    ):
        assert message in quick("benchmark.py", *arguments, code=2).stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
@pytest.mark.parametrize("arguments", [("gpu",), ("lrn", "--device", "cuda")])
def test_a_gpu_is_needed_to_measure_one(arguments: tuple[str, ...]) -> None:
    assert "torch finds no CUDA device here" in quick("benchmark.py", *arguments, code=2).stderr


@slow
def test_the_limits_of_the_machine() -> None:
    for arguments, said in (
        ((), "kept" if platform.libc_ver()[0] == "glibc" else "given back"),
        (("--no-keep-freed-memory",), "given back"),
    ):
        out = quick("benchmark.py", "limits", *arguments).stdout
        assert f"freed memory {said}" in out
        half = r"matmul bfloat16: [\d,]+ GFLOP/s\n" if has_bfloat16() else ""
        assert re.search(rf"matmul float32: [\d,]+ GFLOP/s\n{half}copy: [\d.]+ GB/s", out)
