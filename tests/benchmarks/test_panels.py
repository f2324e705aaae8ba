"""What the panels cost, by the profiler."""

import re

from alexnet.benchmarks.panels import run, table
from alexnet.visualization.panels import panels
from tests.conftest import SMOKE, slow


@slow
def test_every_panel_is_measured() -> None:
    """And none takes no time at all, which would be a hook that the profiler does not see."""
    found = run(*SMOKE, "panels=all")
    lines = table(found).splitlines()
    seconds = {line.split()[0]: float(line.split()[1]) for line in lines[1:-1]}
    assert seconds.keys() == {*(type(panel).__name__ for panel in panels()), "together"}
    assert seconds["Confusion"] > 0
    assert abs(sum(seconds.values()) - 2 * seconds["together"]) < 0.1
    assert re.fullmatch(r"of \d+ s", lines[-1])
    assert seconds["together"] < found["all"]
    assert found["[Callback]Activations.forward"] > 0
