"""Run directories of earlier versions: their configs name classes that have other names today."""

from importlib import import_module

import pytest

from alexnet.compat import RENAMED_TARGETS, upgrade
from alexnet.run_identity import digest
from tests.conftest import has

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
    if not (has(package) or package in ("training", "data")):
        pytest.skip(f"{package} is gone")
    assert hasattr(import_module(module), name)
