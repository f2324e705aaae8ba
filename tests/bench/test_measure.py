import time

import pytest

from alexnet.bench.measure import compare, table


def test_compare_gives_the_ratio_of_medians() -> None:
    def work(seconds: float) -> int:
        time.sleep(seconds)
        return 10

    row = compare("sleep", "naps/s", lambda: work(0.01), lambda: work(0.03), limit=2000, rounds=3)
    assert row.ratio == row.ours / row.peer
    assert 1.5 < row.ratio < 6
    assert row.limit_share == pytest.approx(row.ours / 2000)
    assert row.ours_range[0] <= row.ours <= row.ours_range[1]
    assert "sleep" in table([row])
