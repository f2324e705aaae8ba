"""examples/lecture.ipynb and the Chinese one, run from the first cell to the last."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, has, make_monkeys, options, slow

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

LECTURES = ("lecture", "lecture.zh-TW")

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


def figures(outputs: list[Any]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("name", LECTURES)
def test_it_is_committed_without_outputs(name: str) -> None:
    cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)


def test_the_two_languages_have_the_same_cells() -> None:
    english, chinese = map(read, LECTURES)
    assert [cell.cell_type for cell in english.cells] == [cell.cell_type for cell in chinese.cells]
    assert code_of(english) == code_of(chinese)


@needs_all
def test_what_it_shows_runs(tmp_path: Path) -> None:
    """Its cells up to the first training."""
    notebook = read("lecture")
    trains = next(i for i, cell in enumerate(notebook.cells) if "!python train.py" in cell.source)
    notebook.cells = notebook.cells[:trains]
    assert figures(execute(notebook, {})) == 7


@needs_all
@slow
def test_it_runs(tmp_path: Path) -> None:
    """From the first cell to the last, and on the ten monkeys."""
    values = {
        'Path("outputs/lecture")': f'Path("{tmp_path}/runs")',
        'MONKEYS = ""': f'MONKEYS = "{make_monkeys(tmp_path)}"',
    }
    outputs = execute(read("lecture"), values)
    said = "".join(output.get("text", "") for output in outputs)
    assert "outputs/lecture" not in said, "it runs where it was told to"
    assert "error:" not in said
    assert "\x1b" not in said, "a notebook shows no terminal's control codes"
    assert said.count("test top-1 accuracy") == 3
    assert f"report {tmp_path}/runs/study/lenet-digits-lenet/report.md" in said
    assert figures(outputs) == 11
