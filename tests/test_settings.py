"""Which keys make two runs different."""

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from alexnet.run_identity import differing, digest, on_any_machine, settings, spelled

Config = Callable[..., DictConfig]


@pytest.mark.parametrize(
    "same",
    [
        "outputs=elsewhere",
        "folder=here",
        "logger=none",
        "data.workers=2",
        "trainer.devices=2",
        "model.dropout=0.50",
        "callbacks=none",
    ],
)
def test_the_same_result(same: str, config: Config) -> None:
    assert digest(config(same)) == digest(config())


@pytest.mark.parametrize(
    "other", ["seed=2", "model.lrn=false", "model.dropout=0", "augment=none", "data.batch_size=8", "callbacks=until"]
)
def test_another_result(other: str, config: Config) -> None:
    assert digest(config(other)) != digest(config())


def test_differing(config: Config) -> None:
    whole, other = settings(config("augment=paper")), settings(config("augment=paper", "augment.pca=0", "seed=2"))
    assert set(differing(whole, other)) == {"seed", "data.seed", "augment.pca"}
    assert differing({"a": 1.0}, {"a": 1.0, "b": None}) == ["b"]
    assert [spelled(value) for value in (True, 2.0, 0.01, None, "relu")] == ["true", "2", "0.01", "null", "relu"]


def test_a_command_for_any_machine() -> None:
    words = ["train.py", "model.lrn=false", "outputs=/a", "data.root=/b", "data.cache_dir=/c", "logger.csv.name=x"]
    assert on_any_machine([*words, "weights=/d/best.ckpt", "folder=/e", "logger=csv", "data.root_of=3"]) == [
        *("train.py", "model.lrn=false", "data.root=FOLDER", "weights=FOLDER", "data.root_of=3"),
    ]
