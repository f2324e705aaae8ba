from alexnet.benchmarks.lrn import measure, measure_beside, measure_map
from tests.conftest import slow


@slow
def test_both_places_and_precisions_are_measured() -> None:
    rows = list(measure(batch=1, rounds=1, side=5))
    names = [f"lrn_{kind}{place}" for place in ("96x55x55", "256x27x27") for kind in ("", "bf16_")]
    assert [row.name for row in rows] == names
    assert all(row.ours > 0 and row.baseline > 0 and row.limit_share > 0 for row in rows)


@slow
def test_another_process_trains_beside_it() -> None:
    (row,) = measure_beside(batch=1, rounds=1, side=5, width=1 / 16)
    assert row.name == "lrn_96x55x55_beside"
    assert row.ours > 0


@slow
def test_windows_of_maps() -> None:
    (row,) = measure_map(batch=2, rounds=1, channels=4, side=8)
    assert row.name == "lrn_map_4x8x8"
    assert row.ours > 0
    assert row.baseline > 0
