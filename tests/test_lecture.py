"""examples/lecture.ipynb and the Chinese one, run from the first cell to the last."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, has, make_monkeys, options, slow

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

LECTURES = ("lecture", "lecture.zh-TW")
FIGURES = 11

gone = not (has("study") and has("inference") and has("visualization")) or "lenet" not in options("model")
needs_all = pytest.mark.skipif(gone or "digits" not in options("data"), reason="it shows every part")


def read(name: str) -> Any:
    return nbformat.read(ROOT / "examples" / f"{name}.ipynb", as_version=4)


def code_of(notebook: Any) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def execute(notebook: Any, values: dict[str, str]) -> list[Any]:
    """Runs a notebook where a clone has it, with other values in place of its own. Returns its outputs."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for there, mine in values.items():
        (cell,) = (cell for cell in cells if there in cell.source)
        cell.source = cell.source.replace(there, mine)
    nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(ROOT / "examples")}}).execute()
    return [output for cell in cells for output in cell.outputs]


@pytest.mark.parametrize("name", LECTURES)
def test_it_is_committed_without_outputs(name: str) -> None:
    cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)


def test_the_two_languages_have_the_same_cells() -> None:
    english, chinese = map(read, LECTURES)
    assert [cell.cell_type for cell in english.cells] == [cell.cell_type for cell in chinese.cells]
    assert code_of(english) == code_of(chinese)


def runs_through(folder: Path, values: dict[str, str], trained: int) -> None:
    outputs = execute(read("lecture"), {'Path("outputs/lecture")': f'Path("{folder}/runs")'} | values)
    said = "".join(output.get("text", "") for output in outputs)
    assert "outputs/lecture" not in said, "it runs where it was told to"
    assert "error:" not in said
    assert "\x1b" not in said, "a notebook shows no terminal's control codes"
    assert said.count("test top-1 accuracy") == trained
    assert f"report {folder}/runs/study/lenet-digits-lenet/report.md" in said
    assert sum("image/png" in output.get("data", {}) for output in outputs) == FIGURES


@needs_all
def test_it_runs(tmp_path: Path) -> None:
    tiny = "trainer.max_epochs=2 trainer.limit_train_batches=2 panels=none"
    runs_through(tmp_path, {'MORE = ""': f'MORE = "{tiny}"', '"1,2,3,4,5"': '"1,2"'}, trained=2)


@needs_all
@slow
def test_it_runs_as_it_is(tmp_path: Path) -> None:
    """And on the ten monkeys."""
    monkeys = make_monkeys(tmp_path)
    runs_through(tmp_path, {'MONKEYS = ""': f'MONKEYS = "{monkeys}"'}, trained=3)
