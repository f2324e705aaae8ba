"""A search by Optuna: hydra/sweeper=search, and hydra/sweeper=optuna with the settings of the plugin."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.conftest import digits, program, slow, train_py
from tests.study.test_study import TINY

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
LINE = ("-m", "hydra/sweeper=search", "optimizer.lr=tag(log,interval(0.001,0.1))", "model.width=0.125", *TINY)


@slow
@digits
def test_a_search_is_reported_and_goes_on(tmp_path: Path) -> None:
    """The report says what validation chose, and no verdict; with its folder the search goes on."""
    store = (f"hydra.sweeper.storage=sqlite:///{tmp_path}/trials.db", "hydra.sweeper.study_name=rates")
    said = train_py(*LINE, *store, "hydra.sweeper.n_trials=3", f"outputs={tmp_path}").stdout
    assert (tmp_path / "trials.db").is_file()
    (sweep,) = (tmp_path / "digits-alexnet").iterdir()
    runs = {path.parent.name: json.loads(path.read_text()) for path in sweep.glob("optimizer.lr=*/metrics.json")}
    assert len(runs) == 3
    best = max(run["val"]["top1"] for run in runs.values())
    (line,) = [line for line in said.splitlines() if line.startswith("No verdict on 3 arms")]
    chosen = next(name for name in runs if f"val/top1 chose {name} ({best:.4f})" in line)
    assert runs[chosen]["val"]["top1"] == best
    again = train_py(*LINE, "hydra.sweeper.n_trials=4", "after=none", f"run_dir='{sweep}'").stdout
    assert all(f"done before: {sweep / name}\n" in again for name in runs)
    assert len(list(sweep.glob("optimizer.lr=*/metrics.json"))) == 4


def test_a_search_for_the_worst_is_refused(tmp_path: Path) -> None:
    done = train_py(*LINE, "monitor=val/loss", "mode=min", f"outputs={tmp_path}/o", code=1)
    message = "hydra.sweeper.direction=maximize: mode=min, so hydra.sweeper.direction=minimize"
    assert done.stderr == f"error: {message}\n"
    assert not (tmp_path / "o").exists()
    own = [argument.replace("search", "optuna") for argument in LINE]
    plain = train_py(*own, f"outputs={tmp_path}/o", code=1)
    assert plain.stderr == ("error: hydra.sweeper.direction=minimize: mode=max, so hydra.sweeper.direction=maximize\n")


def test_a_search_without_its_plugin_names_the_package(tmp_path: Path) -> None:
    (tmp_path / "hydra_plugins" / "hydra_optuna_sweeper").mkdir(parents=True)
    (tmp_path / "hydra_plugins" / "hydra_optuna_sweeper" / "__init__.py").write_text("")  # found before the plugin
    line = ("-m", "search=lr", f"outputs={tmp_path}/o")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    refused = program(sys.executable, "train.py", *line, code=1, PYTHONPATH=path).stderr
    assert refused.endswith("pip install hydra-optuna-sweeper\n")
    assert not (tmp_path / "o").exists()
