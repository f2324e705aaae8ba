import numpy as np
import pytest
import torch

from alexnet.rng import generator, uniform


def test_stream_depends_on_seed_and_name_alone() -> None:
    torch.rand(5)
    draw = torch.rand(3, generator=generator(1, "conv1"))
    assert torch.equal(draw, torch.rand(3, generator=generator(1, "conv1")))
    assert not torch.equal(draw, torch.rand(3, generator=generator(2, "conv1")))
    assert not torch.equal(draw, torch.rand(3, generator=generator(1, "conv2")))


@pytest.mark.parametrize("seed", range(5))
def test_a_samples_numbers_do_not_depend_on_its_batch(seed: int) -> None:
    draw = np.random.default_rng(seed)
    index = draw.integers(0, 2_000_000, 50)
    whole = uniform(seed, 3, index, 13)
    some = draw.permutation(50)[:7]
    assert np.array_equal(uniform(seed, 3, index[some], 13), whole[some])
    assert np.array_equal(uniform(seed, 3, index, 4), whole[:, :4])
    assert not np.array_equal(uniform(seed, 4, index, 13), whole)
    assert not np.array_equal(uniform(seed + 1, 3, index, 13), whole)


def test_values_are_the_same_everywhere() -> None:
    """Written down once: a change would make every earlier run unrepeatable."""
    assert uniform(0, 0, [0, 1], 2).tolist() == [
        [0.17541557550430298, 0.47321587800979614],
        [0.36605769395828247, 0.2640560269355774],
    ]


def test_uniform_and_independent() -> None:
    u = uniform(7, 2, np.arange(20_000), 13).astype(np.float64)
    assert u.min() > 0
    assert u.max() < 1
    n = u.size
    for moment, expected in ((1, 1 / 2), (2, 1 / 3), (3, 1 / 4)):
        assert abs((u**moment).mean() - expected) < 5 * 0.3 / n**0.5
    counts = np.histogram(u, 64, (0, 1))[0]
    chi2 = ((counts - n / 64) ** 2 / (n / 64)).sum()
    assert abs(chi2 - 63) < 5 * (2 * 63) ** 0.5
    between_columns = np.corrcoef(u.T) - np.eye(13)
    assert np.abs(between_columns).max() < 5 / 20_000**0.5
    neighbours = np.corrcoef(u[:-1].ravel(), u[1:].ravel())[0, 1]
    epochs = np.corrcoef(u.ravel(), uniform(7, 3, np.arange(20_000), 13).ravel())[0, 1]
    assert abs(neighbours) < 5 / n**0.5
    assert abs(epochs) < 5 / n**0.5
