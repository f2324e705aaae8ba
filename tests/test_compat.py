"""Run directories of earlier versions: their configs name classes that have other names today."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig

from alexnet.compat import RENAMED_TARGETS, upgrade, upgrade_record
from alexnet.config import check
from alexnet.run_identity import digest
from tests.conftest import SMOKE, has, train_py

RECORDED = {
    "scheduler": {"_target_": "alexnet.training.optim.by_hand", "changes": []},
    "callbacks": {"spread": {"_target_": "alexnet.training.lrn_spread.LrnSpread"}},
    "seed": 1,
}


def test_recorded_names_become_those_of_today() -> None:
    config = upgrade(RECORDED)
    assert config["scheduler"] == {"_target_": RENAMED_TARGETS["alexnet.training.optim.by_hand"], "changes": []}
    assert config["callbacks"]["spread"]["_target_"] == RENAMED_TARGETS["alexnet.training.lrn_spread.LrnSpread"]
    assert config["seed"] == 1
    assert upgrade(config) == config


def test_a_study_of_an_earlier_version_is_found_again() -> None:
    """By the digest of its jobs' settings, which were made with the names of then."""
    assert digest(upgrade(RECORDED)) == digest(RECORDED)


@pytest.mark.parametrize("target", RENAMED_TARGETS.values())
def test_every_name_of_today_is_there(target: str) -> None:
    module, _, name = target.rpartition(".")
    package = module.split(".")[1]
    optional = {"sweeps": "study"}.get(package, package)  # what of sweeps is named goes with studies
    if not (has(optional) or package in ("training", "data")):
        pytest.skip(f"{package} is gone")
    assert hasattr(import_module(module), name)


def test_run_records_of_an_earlier_version() -> None:
    assert upgrade_record({"asked": "1f", "state": "done"}) == {"config_digest": "1f", "state": "done"}
    assert upgrade_record({"config_digest": "1f"}) == {"config_digest": "1f"}


EARLIER = ("data.workers=0", "crops=5", "optimizer.bias_lr=2", "+lr_times.classifier=2")


def test_keys_of_an_earlier_version_are_taken_with_a_note(tmp_path: Path) -> None:
    done = train_py(*SMOKE, *EARLIER, f"folder={tmp_path}/run", "--cfg", "job")
    assert done.stderr.count("note: ") == 5
    config = yaml.safe_load(done.stdout)
    assert (config["run_dir"], config["test_crops"]) == (f"{tmp_path}/run", 5)
    assert config["lr_multipliers"] == {"classifier": 2}
    assert config["optimizer"]["bias_lr_multiplier"] == 2
    assert "workers" not in config["data"]


def test_a_file_with_keys_of_an_earlier_version(
    config: Callable[..., DictConfig], capsys: pytest.CaptureFixture
) -> None:
    cfg = config("+crops=5", "+data.workers=1")
    check(cfg)
    assert (cfg.test_crops, cfg.data.num_workers) == (5, 1)
    assert capsys.readouterr().err.count("note: ") == 2


def test_a_study_over_an_earlier_key_is_found_again() -> None:
    recorded = RECORDED | {"crops": 10, "lr_times": {"features": 0.1}, "optimizer": {"bias_lr": 2.0}}
    upgraded = upgrade(recorded)
    assert upgraded["lr_multipliers"] == {"features": 0.1}
    assert upgraded["test_crops"] == 10
    assert upgrade({"folder": "a"}) == {"run_dir": "a"}
    assert digest(upgraded) == digest(recorded)
    assert upgrade_record({"arm": "crops=10,model.lrn=false"})["arm"] == "test_crops=10,model.lrn=false"
