import time
from pathlib import Path

import pytest

from alexnet.benchmarks.measure import Row, compare, line
from alexnet.benchmarks.plot import plot


def test_compare_gives_the_ratio_of_medians() -> None:
    def work(seconds: float) -> int:
        time.sleep(seconds)
        return 10

    row = compare("sleep", "naps/s", lambda: work(0.01), lambda: work(0.03), limit=2000, rounds=3)
    assert row.ratio == row.ours / row.baseline
    assert 1.5 < row.ratio < 6
    assert row.limit_share == pytest.approx(row.ours / 2000)
    assert row.ours_range[0] <= row.ours <= row.ours_range[1]
    assert "sleep" in line(row)


def test_rounds_end_with_the_time_and_a_side_may_time_itself() -> None:
    turns: list[str] = []

    def work(side: str, rate: float) -> float:
        turns.append(side)
        time.sleep(0.02)
        return rate

    row = compare("x", "y/s", lambda: work("a", 6), lambda: work("b", 2), rounds=100, seconds=0.1, timed=True)
    assert row.ratio == 3
    assert turns[:4] == ["a", "b", "a", "b"]
    assert 4 <= len(turns) <= 8
    turns.clear()
    compare("x", "y/s", lambda: work("a", 6), lambda: work("b", 2), rounds=1, warm=False)
    assert turns == ["a", "b"]


def test_a_plot_has_a_bar_for_every_rate(tmp_path: Path) -> None:
    rows = [Row(f"name{i}", r, 1, unit, r, None, (r, r), (1, 1)) for i, (r, unit) in
            enumerate(((0.5, "images/s"), (27.1, "images/s"), (0.7, "MB")))]  # fmt: skip
    plot(rows, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert [f"<!-- {row.name} -->" in text for row in rows] == [True, True, False]
    assert "<!--  27.10  -->" in text
