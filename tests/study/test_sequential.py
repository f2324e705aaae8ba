"""A study until it is answered: its looks by hand, its error rates by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from alexnet.study.compare import Row
from alexnet.study.errors import StudyError
from alexnet.study.intervals import EVERY_LOOK, Difference, dunnett_critical_value
from alexnet.study.metrics import metric_of
from alexnet.study.sequential import (
    ANY_DIFFERENCE,
    LATER_LOOKS,
    MOST,
    NO_DIFFERENCE,
    Looks,
    chance_of_answer,
    check_most,
    forecast,
    images_hide,
    later_looks,
    replay,
)
from alexnet.study.table import Arm, arms_of_rows
from tests.conftest import slow

METRIC = metric_of("f1")


def arms_of(**values: np.ndarray) -> list[Arm]:
    """Of each arm the metric by seed, from 1 on."""
    rows = [
        {"arm": arm, "seed": str(seed), "f1": repr(float(value))}
        for arm, of_arm in values.items()
        for seed, value in enumerate(of_arm, 1)
    ]
    return arms_of_rows(rows)


def look_at(margin: float = 1.0, most: int = 30, **values: np.ndarray) -> Looks:
    longest = max(map(len, values.values()))
    return replay(arms_of(**values), METRIC, margin, range(1, longest + 1), most)


def test_every_look_is_a_paired_t_at_99_5_percent() -> None:
    draw = np.random.default_rng(0)
    base, other = draw.normal(0, 1, 6), draw.normal(0, 1, 6)
    told = look_at(margin=0.1, base=base, other=other)
    assert [look.pairs for look in told.looks] == [3, 4, 5, 6]
    for look in told.looks:
        (row,) = look.found.rows
        expected = stats.ttest_rel(other[: look.pairs], base[: look.pairs]).confidence_interval(0.995)
        np.testing.assert_allclose([row.change - row.half, row.change + row.half], expected, rtol=1e-6)
        assert "99.5% intervals" in look.found.method
    assert told.running == ["other"]
    assert not told.answered
    assert told.used == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("effect", "verdict"), [(5.0, "better"), (-5.0, "worse"), (0.0, "equivalent within 1")], ids=str
)
def test_the_first_answer_ends_it(effect: float, verdict: str) -> None:
    """Runs after it change nothing."""
    draw = np.random.default_rng(1)
    base = draw.normal(0, 1, 30)
    other = base + effect + draw.normal(0, 0.3, 30)
    told = look_at(base=base, other=other)
    answered = told.answered["other"]
    assert answered.row.verdict == verdict
    assert told.looks[-1].pairs == answered.pairs < 30
    assert told.running == []
    again = look_at(base=base[: answered.pairs], other=other[: answered.pairs])
    assert again.answered["other"] == answered


def test_several_arms_by_hand() -> None:
    """First looked at after five pairs; Dunnett's count stays that of the beginning; the larger spread counts."""
    draw = np.random.default_rng(2)
    base = draw.normal(0, 0.05, 8)
    values = {"far": base + 9 + draw.normal(0, 0.05, 8), "near": base + draw.normal(0, 0.6, 8)}
    told = look_at(margin=0.5, base=base, **values)
    assert told.looks[0].pairs == 5
    assert told.answered["far"].pairs == 5
    assert told.running == ["near"]
    second = told.looks[1]
    assert [row.arm for row in second.found.rows] == ["near"]
    differences = (values["near"] - base)[:6]
    (row,) = second.found.rows
    critical = dunnett_critical_value(2, 5, EVERY_LOOK.level)
    np.testing.assert_allclose(row.half, critical * differences.std(ddof=1) / 6**0.5, rtol=1e-6)


def test_no_look_while_an_earlier_seed_is_running() -> None:
    draw = np.random.default_rng(3)
    base, other = draw.normal(0, 1, 8), draw.normal(0, 1, 8)
    arms = arms_of(base=base, other=other)
    del arms[1].runs[5]
    told = replay(arms, METRIC, 0.1, range(1, 9), 30)
    assert [look.pairs for look in told.looks] == [3, 4]
    told = replay(arms, METRIC, 0.1, [1, 2, 3, 4, 6, 7, 8], 30)
    assert told.looks[-1].pairs == 7, "a seed whose run failed for good is not among them"


def test_a_seed_without_a_finite_value_is_left_out_and_told() -> None:
    draw = np.random.default_rng(4)
    base, other = draw.normal(0, 1, 6), draw.normal(0, 1, 6)
    other[1] = np.nan
    told = look_at(margin=0.1, base=base, other=other)
    assert told.left_out == [2]
    assert told.used == [1, 3, 4, 5, 6]


def test_it_gives_up_where_no_answer_can_be_hoped_for() -> None:
    draw = np.random.default_rng(5)
    base = draw.normal(0, 1, 30)
    told = look_at(margin=0.05, base=base, other=base + draw.normal(0, 1, 30))
    assert told.gave_up
    assert 5 <= told.looks[-1].pairs < 30
    more = look_at(margin=0.05, most=50, base=base, other=base + 0.01 * draw.normal(0, 1, 30))
    assert not more.gave_up


def row_with(sd: float, pairs: int, mean: float = 0.0, images: float = 0.0) -> Row:
    difference = Difference(mean, sd / pairs**0.5, pairs - 1.0, sd, images)
    return Row("other", {}, difference=difference, half=difference.half(1, EVERY_LOOK), confidence=EVERY_LOOK)


@pytest.mark.parametrize(("sd", "mean_end", "last_end"), [(0.5, 7, 13), (0.75, 11, 23), (1.0, 16, 36)])
def test_what_the_first_pairs_foretell(sd: float, mean_end: int, last_end: int) -> None:
    """Figures that were simulated: a study of no difference ends after 6.8, 10.5 and 15.5 pairs on average."""
    row = row_with(sd, 3)
    assert forecast(row, 1.0, 3, NO_DIFFERENCE)[0] == mean_end
    likely, at_most = forecast(row, 1.0, 3, ANY_DIFFERENCE)
    assert likely == last_end
    assert at_most > likely


def test_the_chance_of_an_answer_is_that_of_simulated_studies() -> None:
    """The mean after `most` pairs, from that of now on; half the last interval as foretold."""
    draw, pairs, most = np.random.default_rng(6), 8, 30
    for sd, mean in ((1.0, 0.3), (1.5, 0.8), (2.0, 0.0)):
        row = row_with(sd, pairs, mean)
        effect = draw.normal(mean, sd / pairs**0.5, (20_000, 1))  # as far as it is known after so many pairs
        later = draw.normal(effect, sd, (20_000, most - pairs)).sum(1)
        last = (pairs * mean + later) / most
        half = stats.t.ppf(0.9975, most - 1) * sd / most**0.5
        answered = (abs(last) > half) | (abs(last) + half < 1)
        assert chance_of_answer(row, 1.0, pairs, most) == pytest.approx(answered.mean(), abs=0.015)


def test_images_may_hide_an_equality_from_any_number_of_seeds() -> None:
    assert not images_hide(row_with(1.0, 5, images=0.4), 1.0)
    assert images_hide(row_with(1.0, 5, images=0.45), 1.0), "2.33 times 0.45 is more than the margin"
    assert math.isinf(forecast(row_with(1.0, 5, images=0.45), 1.0, 5, 1.0)[0])


def test_all_looks_together_miss_in_five_percent_of_studies() -> None:
    """Of 48 looks at pairs without an effect, with the part of the images and without."""
    draw = np.random.default_rng(7)
    n = np.arange(1, MOST + 1)
    x = draw.normal(0, 1, (20_000, MOST))
    mean = np.cumsum(x, 1) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        sd = np.sqrt((np.cumsum(x**2, 1) - n * mean**2) / (n - 1))
    half = np.array([math.nan, math.nan, *(Difference(0, 1 / k**0.5, k - 1.0, 1).half(1, EVERY_LOOK) for k in n[2:])])
    missed = (abs(mean[:, 2:]) > (half * sd)[:, 2:]).any(1).mean()
    assert 0.045 < missed < 0.056
    for tau in (0.2, 0.5):
        images = draw.normal(0, tau, (20_000, 1))
        of_images = stats.norm.ppf((1 + EVERY_LOOK.images) / 2) * tau
        missed = (abs(mean + images)[:, 2:] > np.hypot(half * sd, of_images)[:, 2:]).any(1).mean()
        assert missed < 0.052


@pytest.mark.parametrize(("first", "figures"), LATER_LOOKS.items(), ids=str)
def test_a_fixed_study_that_is_looked_at_again(first: int, figures: tuple[float, float]) -> None:
    """How many percent find a difference where there is none: 95% at the first look, and 99.5% at each after, to 30."""
    draw, n = np.random.default_rng(9), np.arange(1, 31)
    x = draw.normal(0, 1, (40_000, 30))
    mean = np.cumsum(x, 1) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        t = abs(mean) / np.sqrt((np.cumsum(x**2, 1) / n - mean**2) / (n - 1))
    once, every = (stats.t.ppf((1 + level) / 2, np.maximum(n - 1, 1)) for level in (0.95, EVERY_LOOK.level))
    later = np.concatenate([once[first - 1 : first], every[first:]])
    for found, limit in zip(figures, (later, once[first - 1 :]), strict=True):
        assert 100 * (t[:, first - 1 :] > limit).any(1).mean() == pytest.approx(found, abs=0.6)
    assert f"{figures[0]:g}%" in later_looks(first)


@slow
@pytest.mark.parametrize("spreads", [(1, 1, 1, 1), (1, 1, 1, 3)], ids=str)
def test_several_arms_are_seldom_wrong(spreads: tuple[float, ...]) -> None:
    """No arm differs: any false verdict, of arms that spread alike and where one spreads three times as much."""
    draw, wrong, studies = np.random.default_rng(8), 0, 400
    for _ in range(studies):
        values = {f"arm{i}": draw.normal(0, spread / 2**0.5, 20) for i, spread in enumerate(spreads)}
        told = look_at(most=20, **values)
        wrong += any(found.row.verdict in ("better", "worse") for found in told.answered.values())
    assert wrong / studies < 0.08, "5% and what chance adds to 400"


@pytest.mark.parametrize("value", [2, 51, 3.5, True, "10", None])
def test_how_many_pairs(value: object) -> None:
    with pytest.raises(StudyError, match="max_seeds="):
        check_most("max_seeds", value)


def test_what_has_no_answer_is_refused() -> None:
    arms = arms_of(base=np.zeros(3))
    with pytest.raises(StudyError, match="needs an arm"):
        replay(arms, METRIC, 1.0, [1, 2, 3], 30)
    with pytest.raises(StudyError, match="needs a margin"):
        replay(arms_of(base=np.zeros(3), other=np.ones(3)), METRIC, 0.0, [1, 2, 3], 30)
