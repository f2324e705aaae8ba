"""The three rings of src/alexnet (docs/architecture.md): which module may import which."""

import ast
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "src" / "alexnet"

# Ring 1: what one reads to understand a run.
CORE = (
    *("config", "models.alexnet", "models.lrn", "models.base", "models.init"),
    *("data.datamodule", "data.loader", "data.transforms"),
    *("training.run", "training.build", "training.fit", "training.module", "training.optim"),
)
# Ring 3: packages and modules that can be deleted. All that is in neither list is ring 2, the leaves of a run.
OPTIONAL = (
    *("benchmarks", "diagnostics", "inference", "ops", "recipes", "study", "study_adapter", "sweeps", "visualization"),
    *("data.prepare", "data.streaming", "models.two_gpu"),
)
# Imports of an optional module by one that is not, each within a function that is only called where a config asks for
# the module. The list only gets shorter.
ATTACHED = {
    "data.datamodule": {"data.streaming"},
    "models.alexnet": {"models.two_gpu"},
    "models.lrn_operation": {"ops.lrn.kernel"},
}


def modules() -> dict[str, Path]:
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}


def is_in(name: str, parts: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{part}.") for part in parts)


def imported(path: Path) -> set[str]:
    """The modules of this package that a file imports, wherever in it."""
    known, found = modules(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                whole = f"{node.module}.{name.name}".removeprefix("alexnet.")
                found.add(whole if whole in known else node.module.removeprefix("alexnet."))
        elif isinstance(node, ast.Import):
            found |= {name.name.removeprefix("alexnet.") for name in node.names}
    return {name for name in found if name in known or f"{name}.__init__" in known}


def test_the_study_engine_can_be_copied_by_itself() -> None:
    """It imports nothing but the standard library, numpy, scipy, matplotlib and itself."""
    allowed = {*sys.stdlib_module_names, "numpy", "scipy", "matplotlib", "alexnet.study"}
    found = set()
    for path in (PACKAGE / "study").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            found |= {name if name.startswith("alexnet.") else name.partition(".")[0] for name in names}
    assert [name for name in found if not is_in(name, tuple(allowed))] == []


def test_every_name_of_the_core_is_a_module() -> None:
    assert set(CORE) <= set(modules())


@pytest.mark.parametrize("name", [name for name in modules() if not is_in(name, OPTIONAL)])
def test_a_run_needs_no_optional_module(name: str) -> None:
    found = {other for other in imported(modules()[name]) if is_in(other, OPTIONAL)}
    assert found == {other for other in ATTACHED.get(name, set()) if other in modules()}


@pytest.mark.parametrize(
    "name", [name for name in modules() if is_in(name, ("models", "data")) and name != "data.prepare"]
)
def test_models_and_data_know_nothing_of_a_run(name: str) -> None:
    assert [other for other in imported(modules()[name]) if is_in(other, ("training", "config", "run_dir"))] == []
