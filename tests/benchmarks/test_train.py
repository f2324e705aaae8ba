import pytest

from alexnet.benchmarks import train
from tests.conftest import slow


@slow
def test_the_whole_and_both_loops_are_measured() -> None:
    rows = list(train.measure(rounds=1, images=8, width=1 / 16, steps=1))
    assert [row.name for row in rows] == ["train_vs_script", "loop_alexnet", "loop_lenet"]
    assert all(row.ours > 0 and row.baseline > 0 for row in rows)


def test_a_program_that_fails_is_not_timed() -> None:
    with pytest.raises(RuntimeError, match=r"train.py.*no such key"):
        train._whole(1, "train.py", "model.lrm=false")
