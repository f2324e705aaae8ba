"""Everyday habits: debug=, tags=, task_name=, print_config=, search=, and .env."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alexnet.errors import UserError
from alexnet.run_dir import read_run_json
from alexnet.run_identity import digest
from alexnet.training.build import build_components
from alexnet.training.loggers import identify_run
from alexnet.training.run import train
from tests.conftest import ROOT, first, needs, options, program, slow, train_py
from tests.training.test_run import TINY

Config = Callable[..., DictConfig]
NET = ("model=lenet", "model.activation=relu", "data=fake", "data.size=36", "data.crop=32", "panels=none")


@needs("model", "lenet")
@first(1)
@pytest.mark.parametrize("option", options("debug"))
def test_every_debug_option_runs(option: str, config: Config, tmp_path: Path) -> None:
    """Into a folder of its own, beside real runs."""
    cfg = config(f"debug={option}", *NET, "data.batch_size=16", f"run_dir={tmp_path}/run")
    assert cfg.outputs == "outputs/debug"
    train(cfg)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "test" in metrics
    if option == "overfit":
        assert metrics["train"]["loss"] < 0.1
    if option == "profiler":
        assert "run_training_batch" in (tmp_path / "run" / "train.log").read_text()


def test_tags_are_recorded(config: Config, tmp_path: Path) -> None:
    """In run.json and TensorBoard; a run with others is the same run."""
    cfg = config(*TINY, "logger=tensorboard", "tags=[baseline,thesis]", "task_name=table 2", f"run_dir={tmp_path}/run")
    assert digest(cfg) == digest(config(*TINY, "logger=tensorboard"))
    train(cfg)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["tags"], record["task_name"]) == (["baseline", "thesis"], "table 2")
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    start = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"baseline,thesis" in start
    assert b"table 2" in start


def test_one_tag_needs_no_brackets(config: Config) -> None:
    cfg = config(*TINY, "tags=baseline")
    build_components(cfg)
    assert cfg.tags == ["baseline"]
    for value in ("[1]", "nan"):
        with pytest.raises(UserError, match=r"^tags=.*: must be words"):
            build_components(config(*TINY, f"tags={value}"))


def test_wandb_and_mlflow_are_told_which_run_it_is(config: Config, tmp_path: Path) -> None:
    """A run that is resumed has the same id; what the user has set stays."""
    (tmp_path / "run.json").write_text(json.dumps({"id": "1234abcd"}))
    cfg = config(*TINY, "logger=wandb", f"run_dir={tmp_path}", "tags=[a]", "task_name=try")
    identify_run(cfg)
    assert (cfg.logger.wandb.id, cfg.logger.wandb.resume, cfg.logger.wandb.group) == ("1234abcd", "allow", None)
    assert (list(cfg.logger.wandb.tags), cfg.logger.wandb.job_type) == (["a"], "try")
    cfg = config(*TINY, "logger=wandb", f"run_dir={tmp_path}", "logger.wandb.id=mine")
    identify_run(cfg)
    assert cfg.logger.wandb.id == "mine"
    cfg = config(*TINY, "logger=mlflow", f"run_dir={tmp_path}", "tags=[a,b]")
    identify_run(cfg)
    assert (cfg.logger.mlflow.run_name, dict(cfg.logger.mlflow.tags)) == (tmp_path.name, {"tags": "a,b"})
    assert read_run_json(tmp_path) == {"id": "1234abcd"}


@needs("model", "lenet")
@slow
def test_a_wandb_run_is_resumed_under_its_id(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    line = (*NET, "debug=limit", "logger=wandb", "logger.wandb.offline=true", f"run_dir={tmp_path}/run")
    train_py(*line, WANDB_SILENT="true")
    (run,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    assert run.name.endswith(json.loads((tmp_path / "run" / "run.json").read_text())["id"])


def test_the_config_is_printed_as_a_tree() -> None:
    said = train_py("print_config=true", "data=none_such", code=1)
    assert "none_such" in said.stderr
    said = train_py("print_config=true", "monitor=val/none", "model.lrn_size=7", code=1)
    assert "lrn_size: 7" in said.stdout
    assert "classification" not in said.stdout
    assert "── model" in said.stdout


@pytest.mark.parametrize("option", options("search"))
def test_a_search_says_what_it_is_over(option: str) -> None:
    config = yaml.safe_load((ROOT / "conf" / "search" / f"{option}.yaml").read_text())
    assert config["hydra"]["sweeper"]["params"]
    refused = train_py(f"search={option}", code=1).stderr
    assert f"search={option}: needs -m" in refused


def test_settings_of_a_machine_are_read_from_a_file(tmp_path: Path) -> None:
    """.env of the working directory; what is set already stays."""
    (tmp_path / ".env").write_text("MADE_UP=from_file\nSET_ALREADY=from_file\n")
    code = (
        "import os; from alexnet.cli import handle_errors\n"
        "with handle_errors(): print(os.environ['MADE_UP'], os.environ['SET_ALREADY'])"
    )
    done = program(sys.executable, "-c", code, cwd=tmp_path, SET_ALREADY="mine")
    assert done.stdout.split() == ["from_file", "mine"]
