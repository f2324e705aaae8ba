import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, library, nn

from alexnet.models.lrn import LocalResponseNorm
from alexnet.models.lrn_operation import lrn
from alexnet.ops.lrn import kernel
from tests.conftest import first

COMPILER = shutil.which("cc") or shutil.which("gcc")


@pytest.fixture(autouse=True, params=["lrn.c", "formula"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test goes both ways."""
    if request.param == "formula":
        monkeypatch.setattr(kernel, "compiled", lambda dtype: None)
    elif not COMPILER:
        pytest.skip("no C compiler")
    return request.param


def formula(a: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
    """The paper's formula, written out: b_c = a_c / (k + alpha sum_{j in window} a_j^2)^beta. torch's window."""
    b = torch.empty_like(a)
    channels = a.shape[1]
    for c in range(channels):
        first, last = max(0, c - size // 2), min(channels - 1, c + (size - 1) // 2)
        total = sum(a[:, j] ** 2 for j in range(first, last + 1))
        b[:, c] = a[:, c] / (k + alpha * total) ** beta
    return b


def random_case(seed: int) -> tuple[Tensor, tuple[int, float, float, float]]:
    draw = random.Random(seed)
    shape = [draw.randint(1, 4), draw.randint(1, 20), *(draw.randint(1, 9) for _ in range(draw.choice((1, 2, 2, 3))))]
    constants = (draw.randint(1, 8), 10 ** draw.uniform(-5, 0), draw.choice((0.75, 0.75, 0.5, 1.2)), draw.uniform(1, 3))
    torch.manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64) * 3, constants


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_the_formula_and_torch(seed: int, dtype: torch.dtype) -> None:
    a, (size, alpha, beta, k) = random_case(seed)
    x = a.to(dtype)
    if seed % 2 and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    undivided = LocalResponseNorm(size, alpha, beta, k, divide_alpha=False)(x)
    divided = LocalResponseNorm(size, alpha, beta, k)(x)
    torch.testing.assert_close(undivided, formula(a, size, alpha, beta, k).to(dtype))
    torch.testing.assert_close(divided, nn.LocalResponseNorm(size, alpha, beta, k)(a).to(dtype))


@pytest.mark.parametrize("seed", range(10))
def test_gradient_equals_torchs(seed: int) -> None:
    a, (size, alpha, beta, k) = random_case(seed)
    ours, theirs = a.clone().requires_grad_(), a.clone().requires_grad_()
    upstream = torch.randn_like(a)
    LocalResponseNorm(size, alpha, beta, k)(ours).backward(upstream)
    nn.LocalResponseNorm(size, alpha, beta, k)(theirs).backward(upstream)
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_single_and_half_precision_are_the_exact_ones_rounded(seed: int, dtype: torch.dtype) -> None:
    """Values and gradients against float64, for any size, rows shorter than the window and longer than a block."""
    draw = random.Random(seed)
    groups, c = draw.choice((1, 1, 2, 3)), draw.choice((1, 2, 7, 96, 300, 700))
    size, beta = draw.choice((1, 2, 3, 4, 5, 5, 9, 20)), draw.choice((0.75, 0.75, 0.5, 1.3))
    shape = [draw.randint(1, 3), groups * c, *(draw.randint(1, 7) for _ in range(draw.choice((0, 1, 2))))]
    torch.manual_seed(seed)
    x = (torch.randn(shape) * 10).to(dtype)
    if len(shape) == 4 and draw.random() < 0.7:
        x = x.contiguous(memory_format=torch.channels_last)
    norm, upstream = (
        LocalResponseNorm(size, draw.uniform(0.001, 0.1), beta, 2.0, groups=groups),
        torch.randn(shape).to(dtype),
    )
    found, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    y, expected = norm(found), norm(exact)
    y.backward(upstream)
    expected.backward(upstream.double())
    rounding = 2e-6 if dtype == torch.float32 else 2**-8
    torch.testing.assert_close(y.double(), expected, rtol=1.1 * rounding, atol=1e-7)
    torch.testing.assert_close(
        found.grad.double(), exact.grad, rtol=1.1 * rounding, atol=2 * rounding * float(exact.grad.abs().max())
    )
    assert y.dtype == found.grad.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last) or len(shape) < 4


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 2e-6), (torch.bfloat16, 2**-8)])
@pytest.mark.parametrize("beta", [0.75, 0.5])
@pytest.mark.parametrize("size", [1, 3, 4, 9])
@pytest.mark.parametrize("shape", [(3, 5, 6, 7), (2, 40, 1, 8), (0, 4, 3, 3)])
def test_windows_of_maps_in_lower_precision(
    shape: tuple[int, ...], size: int, beta: float, dtype: torch.dtype, rounding: float
) -> None:
    """Output and gradient as those of float64, to the type's own rounding; windows larger than the map, too."""
    x, upstream = (torch.randn(2, *shape) * 3).to(dtype).unbind(0)
    norm = LocalResponseNorm(size, 0.1, beta, 2.0, divide_alpha=False, window="map")
    exact, found = x.double().requires_grad_(), x.clone().requires_grad_()
    norm(exact).backward(upstream.double())
    norm(found).backward(upstream)
    torch.testing.assert_close(norm(found).double(), norm(exact), rtol=1.1 * rounding, atol=1e-7)
    largest = exact.grad.abs().amax() if exact.numel() else 0.0
    torch.testing.assert_close(found.grad.double(), exact.grad, rtol=1.1 * rounding, atol=2 * rounding * float(largest))


def test_rows_too_wide_for_the_kernel() -> None:
    x = torch.randn(2, kernel.WIDEST + 1)
    torch.testing.assert_close(LocalResponseNorm(5, 0.1)(x), LocalResponseNorm(5, 0.1)(x.double()).float())
    torch.testing.assert_close(
        LocalResponseNorm(5000, 0.1)(x[:, :9]), LocalResponseNorm(5000, 0.1)(x[:, :9].double()).float()
    )


def test_nan_is_not_lost() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(1, 20, dtype=dtype)
        x[0, 7] = torch.nan
        assert LocalResponseNorm(5)(x).isnan()[0].nonzero().flatten().tolist() == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("window", ["channels", "map"])
def test_the_same_for_any_number_of_threads(window: str) -> None:
    x, found, before = torch.randn(3, 96, 11, 11), [], torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(LocalResponseNorm(5, window=window)(x))
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize(("window", "groups"), [("channels", 2), ("map", 1)])
def test_torch_sees_one_operation(window: str, groups: int) -> None:
    """Its fake tensors, autograd and tracing agree with what it does; torch.compile breaks no graph for it."""
    x = torch.randn(2, 8, 3, 3).contiguous(memory_format=torch.channels_last).requires_grad_()
    library.opcheck(lrn, (x, 5, 0.1, 0.75, 2.0, groups, window))
    norm = LocalResponseNorm(5, 0.1, window=window)
    compiled = torch.compile(norm, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), norm(x))
    compiled(x).sum().backward()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_gpu_gives_the_same(dtype: torch.dtype) -> None:
    x, upstream = torch.randn(2, 2, 96, 9, 9).to(dtype).unbind(0)
    results = []
    for device in ("cpu", "cuda"):
        a = x.to(device).detach().requires_grad_()
        y = LocalResponseNorm(5, 0.1, k=2.0)(a)
        y.backward(upstream.to(device))
        results.append((y.cpu(), a.grad.cpu()))
    for here, there in zip(*results, strict=True):
        torch.testing.assert_close(here, there)


@pytest.mark.parametrize("compiler", ["/no/such/compiler", "false"])
def test_without_a_compiler_a_line_says_so(
    compiler: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    if path == "formula":
        pytest.skip("once is enough")
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path))
    kernel.compiled.cache_clear()
    try:
        x = torch.randn(2, 9, 3, 3)
        for _ in range(2):
            torch.testing.assert_close(LocalResponseNorm(5)(x), nn.LocalResponseNorm(5)(x))
    finally:
        kernel.compiled.cache_clear()
    assert logged.text.count("LRN is not compiled (") == 1
    assert os.listdir(tmp_path) == [], "and nothing half is left"


def test_an_older_compiler(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that knows no arch=x86-64-v4 compiles for one machine."""
    if path == "formula":
        pytest.skip("nothing is compiled")
    old = tmp_path / "cc"
    old.write_text(f'#!/bin/sh\ncase "$*" in *ONE_MACHINE*) exec {COMPILER} "$@";; esac\nexit 1\n')
    old.chmod(0o755)
    monkeypatch.setenv("CC", str(old))
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "new"))
    kernel.compiled.cache_clear()
    try:
        x = torch.randn(2, 96, 3, 3)
        torch.testing.assert_close(LocalResponseNorm(5)(x), nn.LocalResponseNorm(5)(x))
        assert len(list((tmp_path / "new").glob("lrn-*.so"))) == 1
    finally:
        kernel.compiled.cache_clear()


def test_compiled_once_and_kept(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path == "formula":
        pytest.skip("nothing is compiled")
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "new"))
    kernel.compiled.cache_clear()
    LocalResponseNorm(5)(torch.randn(2, 9))
    (built,) = (tmp_path / "new").iterdir()
    kernel.compiled.cache_clear()
    monkeypatch.setattr(kernel, "_compile", None)
    LocalResponseNorm(5)(torch.randn(2, 9))
    assert built.name.startswith("lrn-")
    kernel.compiled.cache_clear()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a file away")
@first(1)
@pytest.mark.parametrize("given", ["file", "folder"])
def test_native_code_of_somebody_else_is_not_run(
    given: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == "formula":
        pytest.skip("nothing is compiled")
    cache = tmp_path / "shared"
    monkeypatch.setenv("ALEXNET_CACHE", str(cache))
    kernel.compiled.cache_clear()
    LocalResponseNorm(5)(torch.randn(2, 9))
    (built,) = cache.iterdir()
    built.unlink()  # it is mapped into this process
    built.write_bytes(b"no library")
    os.chown(built if given == "file" else cache, 12345, -1)
    kernel.compiled.cache_clear()
    loaded = []
    library = kernel.ctypes.CDLL

    def load(name: str) -> object:
        loaded.append(Path(name).read_bytes())
        return library(name)

    monkeypatch.setattr(kernel.ctypes, "CDLL", load)
    x = torch.randn(2, 9, 3, 3)
    torch.testing.assert_close(LocalResponseNorm(5)(x), nn.LocalResponseNorm(5)(x))
    assert loaded
    assert b"no library" not in loaded
    kernel.compiled.cache_clear()


def test_gradcheck() -> None:
    a = torch.randn(2, 7, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LocalResponseNorm(5, 0.3, 0.75, 2.0), a)


def by_definition(a: Tensor, size: int, alpha: float, beta: float, k: float, window: str, groups: int) -> Tensor:
    """Every definition, written out value by value."""
    b, (channels, height, width) = torch.empty_like(a), a.shape[1:]
    tower = channels // groups

    def around(i: int, low: int, high: int) -> range:
        return range(max(low, i - size // 2), min(high, i + (size - 1) // 2 + 1))

    for c in range(channels):
        for y in range(height):
            for x in range(width):
                near = around(c, c // tower * tower, (c // tower + 1) * tower)
                if window == "map":
                    total = sum(a[:, c, v, u] ** 2 for v in around(y, 0, height) for u in around(x, 0, width))
                elif window == "own":
                    total = len(near) * a[:, c, y, x] ** 2
                else:
                    total = sum(a[:, j, y, x] ** 2 for j in near)
                b[:, c, y, x] = a[:, c, y, x] / (k + alpha * total) ** beta
    return b


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("window", "groups"), [("channels", 1), ("channels", 2), ("own", 1), ("own", 2), ("map", 1)])
def test_every_definition(window: str, groups: int, seed: int) -> None:
    draw = random.Random(seed)
    a = torch.randn(2, 2 * draw.randint(1, 5), draw.randint(1, 6), draw.randint(1, 6), dtype=torch.float64) * 3
    size, alpha, beta, k = draw.randint(1, 6), draw.uniform(0.01, 1), draw.choice((0.75, 0.5, 1.2)), draw.uniform(1, 3)
    expected = by_definition(a, size, alpha, beta, k, window, groups)
    undivided = LocalResponseNorm(size, alpha, beta, k, divide_alpha=False, window=window, groups=groups)
    torch.testing.assert_close(undivided(a), expected)
    torch.testing.assert_close(undivided(a.float()), expected.float())
    half = undivided(a.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), expected, rtol=0.03, atol=0.03)
    values = size**2 if window == "map" else size
    divided = LocalResponseNorm(size, alpha * values, beta, k, window=window, groups=groups)
    torch.testing.assert_close(divided(a), expected)


@pytest.mark.parametrize(("window", "groups"), [("channels", 2), ("own", 2), ("map", 1)])
@pytest.mark.parametrize("size", [4, 5])
def test_gradcheck_of_every_definition(window: str, groups: int, size: int) -> None:
    a = torch.randn(2, 8, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LocalResponseNorm(size, 0.3, 0.75, 2.0, window=window, groups=groups), a)


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 5), (1, 2, 6, 5, 5)])
def test_windows_of_maps_are_of_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"window=map: needs images \(N, C, H, W\)"):
        LocalResponseNorm(3, window="map")(torch.randn(shape))


def test_groups_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="groups=2: must divide the input's 3 channels"):
        LocalResponseNorm(5, groups=2)(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="window=maps: must be one of channels, own, map"):
        LocalResponseNorm(5, window="maps")


def test_more_rows_than_one_piece() -> None:
    a = torch.randn(2, 6, 40, 40, requires_grad=True)
    b = a.detach().clone().requires_grad_()
    LocalResponseNorm(5, 0.1)(a).square().sum().backward()
    nn.LocalResponseNorm(5, 0.1)(b).square().sum().backward()
    torch.testing.assert_close(a.grad, b.grad)


def test_bfloat16_is_as_exact_as_its_output() -> None:
    """d = 2 + a small sum must not be rounded to bfloat16, where 2.01 is 2.0: the normalisation would vanish."""
    a = (torch.rand(2, 96, 9, 9) * 4).bfloat16()
    b = LocalResponseNorm(5, 1e-3, 0.75, 2.0, divide_alpha=False)(a)
    exact = formula(a.double(), 5, 1e-3, 0.75, 2.0)
    assert b.dtype == torch.bfloat16
    assert ((b.double() - exact).abs() / exact.clamp(min=1e-6)).max() < 1.2 * 2**-8
    torch.testing.assert_close((b.double() / exact).mean().item(), 1.0, atol=2e-4, rtol=0)


def test_float16_does_not_overflow() -> None:
    a = torch.tensor([300.0, -1000.0, 2.0]).half().view(1, 3, 1, 1).requires_grad_()
    b = LocalResponseNorm(3, 0.1, 0.75, 2.0)(a)
    b.backward(torch.ones_like(b))
    torch.testing.assert_close(b, nn.LocalResponseNorm(3, 0.1, 0.75, 2.0)(a.float()).half(), atol=1e-3, rtol=2e-3)
    assert a.grad.isfinite().all()


def test_autocast_does_not_lower_the_precision_of_float32() -> None:
    a = torch.randn(2, 8, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        b = LocalResponseNorm(5, 0.5)(a)
    torch.testing.assert_close(b, nn.LocalResponseNorm(5, 0.5)(a))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size=0"),
        ({"size": 2.5}, "size=2.5"),
        ({"size": 5, "alpha": -1}, "alpha=-1"),
        ({"size": 5, "k": 0}, "k=0"),
        ({"size": 5, "beta": float("nan")}, "beta=nan"),
        ({"size": 5, "divide_alpha": 1}, "divide_alpha=1"),
    ],
)
def test_values_out_of_range(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalResponseNorm(**arguments)
