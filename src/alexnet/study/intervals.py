"""Intervals of a difference between two arms, which hold for new seeds and new images at once.

All runs of a study share one split, so the spread over seeds holds no sampling of the test set: seeds and images are
two factors, and the variance of a mean has a part of each. Arms are paired by seed, which takes away what a seed does
to all of them.

An interval's half-width is sqrt(c(dof)^2 seeds^2 + c(inf)^2 images^2): each part with its own critical value, known
as a modified large-sample interval (Graybill and Wang 1980). One value for the sum, with Satterthwaite's degrees of
freedom, is up to a quarter narrower with three seeds, but in some settings of the two parts it held the truth in 92% of
simulated studies only, where this held it in 94% or more but for chance (tests/study/test_intervals.py).
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

POWER = 0.8
NONE = 1e-12  # less than this is no spread, but rounding


@dataclass(frozen=True)
class Confidence:
    """The coverage of an interval.

    Attributes:
        level: of the part of the seeds.
        images: of the part of the test images.
    """

    level: float = 0.95
    images: float = 0.95

    def share(self, part: float) -> "Confidence":
        """Returns the confidence of intervals that may together miss in this part of the cases (Bonferroni)."""
        return Confidence(1 - (1 - self.level) * part, 1 - (1 - self.images) * part)


ONCE = Confidence()  # of a study whose seeds were fixed beforehand
# Of each look at a study that adds seeds until it has an answer (sequential.py). Together the intervals of all looks
# from the third pair to the 50th hold in 95% of studies, whatever stops them. The test images are drawn only once.
EVERY_LOOK = Confidence(0.995, 0.98)


@dataclass(frozen=True)
class Difference:
    """An estimate, and the two parts of its standard error.

    mean: of arm - baseline. seeds: the part of the seeds, with dof degrees of freedom. images: that of the test
    images, which no number of seeds takes away. sd: of one seed's difference.
    """

    mean: float
    seeds: float
    dof: float
    sd: float
    images: float = 0.0

    def half(self, arms: int = 1, confidence: Confidence = ONCE) -> float:
        """Returns the half-width of an interval that holds together with those of `arms` arms; nan without spread."""
        if self.seeds < NONE:
            return float("nan")
        of_seeds = dunnett_critical_value(arms, self.dof, confidence.level)
        of_images = dunnett_critical_value(arms, float("inf"), confidence.images)
        return float(np.hypot(of_seeds * self.seeds, of_images * self.images))

    def after(self, pairs: int, now: int) -> "Difference":
        """Returns the difference as forecast after `pairs` pairs, from the spread of the `now` pairs so far."""
        dof = self.dof * (pairs - 1) / (now - 1)
        return replace(self, seeds=self.sd / pairs**0.5, dof=dof)

    def minimum_detectable_effect(self, arms: int = 1, confidence: Confidence = ONCE) -> float:
        """Returns the smallest true difference that such runs would detect in 80% of studies."""
        of_seeds = dunnett_critical_value(arms, self.dof, confidence.level) * _scale(self.dof) * self.seeds
        half = np.hypot(of_seeds, dunnett_critical_value(arms, float("inf"), confidence.images) * self.images)
        error = np.hypot(self.seeds, self.images)

        def missed(d: float) -> float:
            return POWER - float((special.ndtr((d - half) / error) + special.ndtr((-d - half) / error)).mean())

        return float(optimize.brentq(missed, 0, 10 * half.max()))

    def required_seeds(self, margin: float, arms: int = 1, confidence: Confidence = ONCE) -> tuple[float, float]:
        """Returns how many seeds detect `margin` in 80% of studies, by this sd and by its 80% upper limit.

        inf where the test images hide such a difference from any number of seeds.
        """
        z = dunnett_critical_value(arms, float("inf"), confidence.level) + stats.norm.ppf(POWER)
        left = margin**2 - (z * self.images) ** 2
        if left <= 0:
            return float("inf"), float("inf")
        low, high = (float(np.ceil((z * sd) ** 2 / left + 2)) for sd in (self.sd, self.largest_sd))
        return low, high

    @property
    def largest_sd(self) -> float:
        """Returns the 80% upper limit of sd."""
        return float(self.sd * (self.dof / stats.chi2.ppf(1 - POWER, self.dof)) ** 0.5)


def two_way(
    products: NDArray[np.float64], sums: NDArray[np.float64], images: int, spread: tuple[float, float] | None = None
) -> Difference:
    """Returns the difference for new seeds and new images.

    By the moments of a two-way layout of the difference between arm and baseline, of a seed and an image: of accuracies
    -1, 0 or 1.

    Args:
        products: (seeds, seeds), of two seeds' differences, summed over the images.
        sums: (seeds,), of a seed's differences over the images.
        images: how many there are.
        spread: variance of a seed's difference and its degrees of freedom, where arms are pooled; else this arm's own,
            which counts as well where it is larger.
    """
    n, by_seed = len(sums), sums / images
    mean = by_seed.mean()
    variance, dof = _spread_of(by_seed, spread)
    among_images = products.sum() / n**2 - images * mean**2  # sum of squares
    rest = products.trace() - images * (by_seed**2).sum() - n * among_images
    chance = rest / ((n - 1) * (images - 1)) / (n * images)  # is in the spread of both
    of_images = max(among_images / (images - 1) / images - chance, 0.0)
    return Difference(
        float(mean), float((variance / n) ** 0.5), float(dof), float(variance**0.5), float(of_images**0.5)
    )


def paired_t(differences: ArrayLike, spread: tuple[float, float] | None = None) -> Difference:
    """Returns the difference for new seeds on the same images: the paired t. differences: (seeds,), arm - baseline."""
    d = np.asarray(differences, float)
    variance, dof = _spread_of(d, spread)
    return Difference(float(d.mean()), float((variance / len(d)) ** 0.5), float(dof), float(variance**0.5))


def _spread_of(differences: NDArray[np.float64], pooled: tuple[float, float] | None) -> tuple[float, float]:
    """Returns the variance of a seed's difference, and its degrees of freedom.

    An arm whose own is larger than that of all arms has its own: it costs little where arms are alike, and keeps
    unequal ones honest.
    """
    own = float(differences.var(ddof=1))
    if pooled is None:
        return own, len(differences) - 1
    variance, dof = pooled
    return max(variance, own), dof


def welch(arm: ArrayLike, baseline: ArrayLike) -> Difference:
    """Returns the difference by Welch's t, for arms whose seeds are not the same. Both: (seeds,)."""
    a, b = np.asarray(arm, float), np.asarray(baseline, float)
    each = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    variance = each.sum()
    dof = variance**2 / (each**2 / (np.array([len(a), len(b)]) - 1)).sum() if variance else len(a) + len(b) - 2.0
    sd = (a.var(ddof=1) + b.var(ddof=1)) ** 0.5
    return Difference(float(a.mean() - b.mean()), float(variance**0.5), float(dof), float(sd))


def pooled(values: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the variance of a seed's difference between two arms, from all arms, and its degrees of freedom.

    values: (arms, seeds), the baseline among the arms.
    """
    rest = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    dof = (values.shape[0] - 1) * (values.shape[1] - 1)
    return float(2 * (rest**2).sum() / dof), float(dof)


def heterogeneous_arms(values: NDArray[np.float64], level: float = 0.95) -> list[int]:
    """Returns the places of the arms whose spread is too far above the others' for pooling.

    An F test of each, at level by Bonferroni, of its difference from the others' mean against their own spread. values:
    (arms, seeds).
    """
    arms, n = values.shape
    apart: list[int] = []
    while len(apart) < arms - 2:  # the furthest is taken out, and the rest looked at again
        left = [arm for arm in range(arms) if arm not in apart]
        ratios = []
        for arm in left:
            others = values[[other for other in left if other != arm]]
            own = (values[arm] - others.mean(0)).var(ddof=1) / (1 + 1 / len(others))
            ratios.append(own / max(pooled(others)[0] / 2, NONE))
        top = int(np.argmax(ratios))
        if ratios[top] <= stats.f.ppf(1 - (1 - level) / arms, n - 1, (len(left) - 2) * (n - 1)):
            break
        apart.append(left[top])
    return sorted(apart)


@cache
def dunnett_critical_value(arms: int, dof: float, level: float = 0.95) -> float:
    """Returns how many standard errors an interval is wide to each side: Dunnett's value, and for one arm Student's.

    With it the intervals of `arms` arms that share a baseline and an estimate of the spread hold together.
    """
    alone = float(stats.t.ppf((1 + level) / 2, dof))
    if arms == 1:
        return alone
    z, weights = np.polynomial.hermite_e.hermegauss(40)  # of the baseline
    weights, s = weights / weights.sum(), _scale(dof)[:, None]

    def held(c: float) -> float:
        half = 2**0.5 * c * s
        return ((special.ndtr(z + half) - special.ndtr(z - half)) ** arms @ weights).mean() - level

    return float(optimize.brentq(held, alone - 1e-3, stats.t.ppf(1 - (1 - level) / (2 * arms), dof) + 1e-3, xtol=1e-5))


@cache
def _scale(dof: float) -> NDArray[np.float64]:
    """Returns quantiles of the estimated over the true standard deviation, at evenly spaced probabilities."""
    if dof == float("inf"):
        return np.ones(1)
    return np.sqrt(stats.chi2.ppf((np.arange(1000) + 0.5) / 1000, dof) / dof)
