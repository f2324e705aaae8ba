import random

import pytest
import torch
from torch import Tensor, nn

from alexnet.models.lrn import LocalResponseNorm


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
    undivided = LocalResponseNorm(size, alpha, beta, k, False, window, groups)
    torch.testing.assert_close(undivided(a), expected)
    torch.testing.assert_close(undivided(a.float()), expected.float())
    half = undivided(a.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), expected, rtol=0.03, atol=0.03)
    values = size**2 if window == "map" else size
    divided = LocalResponseNorm(size, alpha * values, beta, k, True, window, groups)
    torch.testing.assert_close(divided(a), expected)


@pytest.mark.parametrize(("window", "groups"), [("channels", 2), ("own", 2), ("map", 1)])
@pytest.mark.parametrize("size", [4, 5])
def test_gradcheck_of_every_definition(window: str, groups: int, size: int) -> None:
    a = torch.randn(2, 8, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LocalResponseNorm(size, 0.3, 0.75, 2.0, True, window, groups), a)


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
