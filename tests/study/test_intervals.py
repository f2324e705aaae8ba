"""Intervals against scipy, against the tables of a simulation, and by how often they hold the truth."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from alexnet.study.intervals import (
    Difference,
    dunnett_critical_value,
    heterogeneous_arms,
    paired_t,
    pooled,
    welch,
)  # fmt: skip
from tests.study.fakes import two_way_of


@pytest.mark.parametrize("n", [3, 5, 10])
def test_paired_and_welch_are_scipys(n: int) -> None:
    draw = np.random.default_rng(n)
    a, b = draw.normal(0.9, 0.02, n), draw.normal(0.88, 0.01, n)
    for ours, theirs in (
        (paired_t(a - b), stats.ttest_rel(a, b)),
        (welch(a, b), stats.ttest_ind(a, b, equal_var=False)),
    ):
        interval = theirs.confidence_interval(0.95)
        np.testing.assert_allclose((ours.mean - ours.half(), ours.mean + ours.half()), interval, rtol=1e-9)


@pytest.mark.parametrize(("arms", "n"), [(2, 3), (5, 4), (6, 10)])
def test_dunnetts_value_is_scipys(arms: int, n: int) -> None:
    """scipy's is for independent groups: there too the arms share a baseline, with (arms + 1)(n - 1) dof."""
    draw = np.random.default_rng(arms)
    groups = [draw.normal(size=n) for _ in range(arms + 1)]
    found = stats.dunnett(*groups[1:], control=groups[0], random_state=draw)
    interval = found.confidence_interval(0.95)
    error = (np.mean([group.var(ddof=1) for group in groups]) * 2 / n) ** 0.5
    width = (interval.high - interval.low) / 2 / error
    np.testing.assert_allclose(width, dunnett_critical_value(arms, (arms + 1) * (n - 1)), rtol=4e-3)


def test_one_arm_pooled_is_the_paired_t() -> None:
    values = np.random.default_rng(0).normal(size=(2, 5))
    variance, dof = pooled(values)
    assert dof == 4
    np.testing.assert_allclose(variance, (values[1] - values[0]).var(ddof=1))


def test_two_way_by_hand() -> None:
    """Three seeds, four images: sums of squares written out."""
    right = np.array([[1, 0, 0, 1], [0, 0, 0, 1], [1, -1, 0, 1]])
    n, images, mean = 3, 4, 3 / 12 + 1 / 12
    by_seed, by_image = [0.5, 0.25, 0.25], [2 / 3, -1 / 3, 0, 1]
    seeds = images * sum((x - mean) ** 2 for x in by_seed) / (n - 1)
    items = n * sum((x - mean) ** 2 for x in by_image) / (images - 1)
    rest = sum((right[i][j] - by_seed[i] - by_image[j] + mean) ** 2 for i in range(3) for j in range(4)) / 6
    found = two_way_of(right)
    np.testing.assert_allclose((found.mean, found.sd), (mean, (seeds / images) ** 0.5))
    np.testing.assert_allclose(found.seeds**2, seeds / 12)
    np.testing.assert_allclose(found.images**2, max(items - rest, 0) / 12)
    half = (stats.t.ppf(0.975, 2) ** 2 * found.seeds**2 + stats.norm.ppf(0.975) ** 2 * found.images**2) ** 0.5
    np.testing.assert_allclose(found.half(), half)


def test_without_any_spread_there_is_no_interval() -> None:
    assert np.isnan(two_way_of(np.zeros((3, 20), int)).half())
    assert np.isnan(paired_t([0.1, 0.1, 0.1]).half())


@pytest.mark.parametrize(("n", "deviations"), [(3, 3.26), (5, 1.68), (10, 1.00), (20, 0.66)])
def test_what_these_runs_could_have_seen(n: int, deviations: float) -> None:
    """In standard deviations of a difference; and by drawing studies."""
    found = Difference(0.0, n**-0.5, n - 1, 1.0).minimum_detectable_effect()
    assert found == pytest.approx(deviations, abs=0.01)
    rand = np.random.default_rng(n).normal(found, 1, (20_000, n))
    assert (stats.ttest_1samp(rand, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.015)


def test_seeds_needed() -> None:
    one = Difference(0.0, 0.01, 4, 0.02)
    assert one.required_seeds(0.02)[0] == 10, "7.85 + 2"
    low, high = one.required_seeds(0.005)
    assert (low, high) == (128, pytest.approx(7.85 * (1.56 * 4) ** 2 + 2, rel=0.01)), "1.56: the 80% limit at n = 5"
    hidden = Difference(0.0, 0.01, 4, 0.02, images=0.005)
    assert hidden.required_seeds(0.01) == (np.inf, np.inf), "2.8 times the images' part is more than the margin"
    assert 10 < hidden.required_seeds(0.02)[0] < np.inf


def study(draw: np.random.Generator, arms: int, n: int, images: int, wild: float = 1.0) -> NDArray[np.bool_]:
    """Right or wrong, (arms + 1, seeds, images): seeds, images, runs and chance each move a latent score, whose
    mean is the same in all arms, so that the truth is no difference. wild: times the spread of the last arm's runs.
    """
    run = draw.normal(0, 0.12, (arms + 1, n, 1))
    run[-1] *= wild
    score = draw.normal(0, 1, (1, 1, images)) + draw.normal(0, 0.5, (arms + 1, 1, images))
    score = 2.2 + score + run + draw.normal(0, 0.1, (1, n, 1)) + draw.normal(0, 0.7, (arms + 1, n, images))
    return score > 0


@pytest.mark.parametrize("images", [269, 1500])
@pytest.mark.parametrize("arms", [1, 5])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_coverage(n: int, arms: int, images: int) -> None:
    """All of a study's intervals hold the truth in at least 94% of studies."""
    draw = np.random.default_rng(1000 * n + arms)
    studies, held = 400 if arms > 1 else 800, 0
    for _ in range(studies):
        right = study(draw, arms, n, images).astype(np.int32)
        spread = pooled(right.mean(2)) if arms > 1 else None
        found = [two_way_of(right[arm] - right[0], spread) for arm in range(1, arms + 1)]
        held += all(abs(one.mean) <= one.half(arms) for one in found)
    assert held / studies >= 0.94
    assert held / studies <= 0.99, "nor are they wide for nothing"


def test_an_arm_that_spreads_more_is_found() -> None:
    draw = np.random.default_rng(1)
    calm = draw.normal(0, 1, (6, 5))
    assert heterogeneous_arms(calm) == []
    wild = calm.copy()
    wild[3] *= 8
    assert heterogeneous_arms(wild) == [3]
    for arms, n in ((6, 5), (3, 3)):
        rate = np.mean([bool(heterogeneous_arms(draw.normal(0, 1, (arms, n)))) for _ in range(400)])
        assert rate <= 0.08
    three = draw.normal(0, 1, (3, 3))
    three[2] *= 100
    assert heterogeneous_arms(three) == [2], "though it is in the mean of every seed"
