"""docs/studies/how-many-seeds.md says what is simulated."""

import pytest

from tests.conftest import ROOT
from tests.study.how_many_seeds import false_differences, pairs_until_answered

PAGE = " ".join((ROOT / "docs" / "studies" / "how-many-seeds.md").read_text().split())


def test_the_figures_of_looking_again() -> None:
    assert false_differences(0.95)[-1] == pytest.approx(31, abs=0.5)
    assert "finds one in 31% of the studies where there is none" in PAGE
    assert false_differences(0.995)[-1] < 5


@pytest.mark.parametrize(("spread", "ends"), [(1, (16, 19, 6)), (0.5, (7, 9, 4))])
def test_the_pairs_that_it_takes(spread: float, ends: tuple[int, int, int]) -> None:
    found = [round(pairs_until_answered(spread, effect)[0]) for effect in (0, 0.5, 2)]
    assert tuple(found) == ends
    assert "after 16 pairs on average if there is no difference, after 19 if it is half a margin, and after 6" in PAGE
    assert "half a margin apart it is 7, 9 and 4" in PAGE
