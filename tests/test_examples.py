"""examples/, as they are typed."""

import re

import pytest

from tests.conftest import ROOT, digits, needs, quick


@needs("model", "lenet")
@digits
@pytest.mark.parametrize(
    ("name", "last", "least"), [("network", r"step 30: loss ([\d.]+)", 0), ("data", r"accuracy ([\d.]+)", 0.9)]
)
def test_an_example(name: str, last: str, least: float) -> None:
    """The one learns its images by heart, and the other the digits."""
    said = quick(f"examples/{name}.py").stdout
    (found,) = re.findall(last, said)
    assert least <= float(found) <= least + 0.1


def test_every_example_is_tried() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == {"network", "data"}
