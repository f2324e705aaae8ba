"""Makes the figures of docs/studies/how-many-seeds.md by simulation: python -m tests.study.how_many_seeds."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from alexnet.study.figures import line_look, new_axes, save
from alexnet.study.intervals import EVERY_LOOK, ONCE
from alexnet.study.sequential import FIRST, MOST

PAGES = Path("docs/studies")
SPREADS = (0.5, 1.0, 1.5)  # standard deviation of one pair's difference, in margins
EFFECTS = np.linspace(0, 3, 13)  # in margins


def looks(spread: float, effect: float, level: float, studies: int = 20_000) -> tuple[NDArray, NDArray]:
    """Mean and half of the interval at every look of so many studies: (studies, looks), in margins."""
    draw = np.random.default_rng(0)
    n = np.arange(1, MOST + 1)
    x = draw.normal(effect, spread, (studies, MOST))
    mean = np.cumsum(x, 1) / n
    variance = np.maximum(np.cumsum(x**2, 1) / n - mean**2, 0) * n / np.maximum(n - 1, 1)
    half = stats.t.ppf((1 + level) / 2, np.maximum(n - 1, 1)) * np.sqrt(variance / n)
    return mean[:, FIRST - 1 :], half[:, FIRST - 1 :]


def false_differences(level: float) -> NDArray:
    """Percent of studies without a difference that have found one, by how often they have looked: (looks,)."""
    mean, half = looks(1, 0, level)
    return 100 * np.logical_or.accumulate(abs(mean) > half, 1).mean(0)


def pairs_until_answered(spread: float, effect: float) -> tuple[float, float]:
    """The mean number of pairs at which a study ends, and by which nine in ten have ended."""
    mean, half = looks(spread, effect, EVERY_LOOK.level)
    answered = (abs(mean) > half) | (abs(mean) + half <= 1)
    ends = np.where(answered.any(1), answered.argmax(1) + FIRST, MOST)
    return float(ends.mean()), float(np.quantile(ends, 0.9))


def main() -> None:
    figure, axes = new_axes(6, 3.4)
    pairs = range(FIRST, MOST + 1)
    for number, level in enumerate((ONCE.level, EVERY_LOOK.level)):
        label = f"{100 * level:g}% interval at each look"
        axes.plot(pairs, false_differences(level), label=label, linewidth=2, **line_look(number))
    axes.axhline(5, color="0.5", linewidth=1)
    axes.set_xlabel("pairs of runs, with a look after each from the third on")
    axes.set_ylabel("studies that find a difference\nwhere there is none, %")
    axes.legend(frameon=False)
    save(figure, PAGES / "looking-again")

    figure, axes = new_axes(6, 3.4)
    for number, spread in enumerate(SPREADS):
        ends = np.array([pairs_until_answered(spread, effect) for effect in EFFECTS])
        label = f"pairs differ by {spread:g} margins"
        axes.plot(EFFECTS, ends[:, 0], label=label, linewidth=2, **line_look(number))
        axes.plot(EFFECTS, ends[:, 1], linewidth=0.8, **line_look(number))
    axes.set_xlabel("true difference, in margins")
    axes.set_ylabel("pairs until answered")
    axes.set_ylim(0, MOST + 1)
    axes.legend(frameon=False)
    save(figure, PAGES / "until-answered")


if __name__ == "__main__":
    main()
