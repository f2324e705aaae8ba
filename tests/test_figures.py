"""Figures that several packages draw, from few classes to ImageNet's."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from alexnet import plotting
from tests.conftest import first


@first(2)
@pytest.mark.parametrize("n", [2, 10, 31, 1000])
@pytest.mark.parametrize("small", [False, True])
def test_any_number_of_classes(n: int, small: bool, tmp_path: Path) -> None:
    """Named as long as there is room; the darkest cells are the largest shares of a row; names may hold anything."""
    draw = np.random.default_rng(n)
    counts = draw.integers(0, 3, (n, n)) + 50 * np.eye(n, dtype=int)
    names = [f"class ${i}$ {'x' * 40}" for i in range(n)]
    figure = plotting.confusion("title", names, counts, small=small)
    axes = figure.axes[0]
    shown = np.asarray(axes.images[0].get_array())
    assert shown == pytest.approx(counts / counts.sum(1, keepdims=True))
    named = n <= (plotting.NAMED_SMALL if small else plotting.NAMED)
    assert len(axes.texts) == (np.count_nonzero(counts) if named else 0)
    bars = plotting.bars("title", names, shown.diagonal(), "share", small=small)
    widths = [bar.get_width() for bar in bars.axes[0].patches]
    assert widths == sorted(shown.diagonal().tolist())[: plotting.NAMED]
    for name, one in (("confusion", figure), ("bars", bars)):
        plotting.save(one, tmp_path / name)
        with Image.open(tmp_path / f"{name}.png") as image:
            assert max(image.size) < 2500


def test_the_same_figure_makes_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        figure = Figure()
        figure.subplots().plot([1, 2], label="a line")
        for kind in (".png", ".svg", ".pdf"):
            plotting.write(figure, tmp_path / f"{name}{kind}")
    for kind in (".png", ".svg", ".pdf"):
        assert (tmp_path / f"a{kind}").read_bytes() == (tmp_path / f"b{kind}").read_bytes(), kind
    assert len(list(tmp_path.iterdir())) == 6
