"""examples/lecture.ipynb and the Chinese one, run from the first cell to the last."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, has, options, slow

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

LECTURES = ("lecture", "lecture.zh-TW")
TINY = "trainer.max_epochs=2 trainer.limit_train_batches=2 panels=none"
SEEDS = "1,2,3,4,5"
FIGURES = 12

gone = not (has("study") and has("inference") and has("visualization")) or "lenet" not in options("model")
needs_all = pytest.mark.skipif(gone or "digits" not in options("data"), reason="it shows every part")


def read(name: str) -> Any:
    return nbformat.read(ROOT / "examples" / f"{name}.ipynb", as_version=4)


def code_of(notebook: Any) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def execute(notebook: Any, runs: Path, more: str, seeds: str) -> list[Any]:
    """Runs a notebook where a clone has it. Returns its outputs."""
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    values = {'MORE = ""': f'MORE = "{more}"', SEEDS: seeds, "outputs/lecture": str(runs)}
    for there, mine in values.items():
        assert there in first.source
        first.source = first.source.replace(there, mine)
    nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(ROOT / "examples")}}).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.parametrize("name", LECTURES)
def test_it_is_committed_without_outputs(name: str) -> None:
    cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)


def test_the_two_languages_have_the_same_cells() -> None:
    english, chinese = map(read, LECTURES)
    assert [cell.cell_type for cell in english.cells] == [cell.cell_type for cell in chinese.cells]
    assert code_of(english) == code_of(chinese)


def runs_through(folder: Path, more: str = "", seeds: str = SEEDS) -> None:
    outputs = execute(read("lecture"), folder / "runs", more, seeds)
    said = "".join(output.get("text", "") for output in outputs)
    assert "outputs/lecture" not in said, "it runs where it was told to"
    assert "error:" not in said
    assert "\x1b" not in said, "a notebook shows no terminal's control codes"
    assert said.count("test top-1 accuracy") == 2
    assert f"report {folder}/runs/study/lenet-digits-lenet/report.md" in said
    figures = sum("image/png" in output.get("data", {}) for output in outputs)
    assert figures == FIGURES


@needs_all
def test_it_runs(tmp_path: Path) -> None:
    runs_through(tmp_path, TINY, "1,2")


@needs_all
@slow
def test_it_runs_as_it_is(tmp_path: Path) -> None:
    runs_through(tmp_path)
