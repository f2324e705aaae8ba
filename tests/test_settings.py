"""Which keys make two runs different."""

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from alexnet.run_identity import differing, digest, format_value, portable_command, result_affecting

Config = Callable[..., DictConfig]


@pytest.mark.parametrize(
    "same",
    [
        "outputs=elsewhere",
        "run_dir=here",
        "logger=none",
        "data.num_workers=2",
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
    whole, other = (
        result_affecting(config("augment=paper")),
        result_affecting(config("augment=paper", "augment.pca=0", "seed=2")),
    )
    assert set(differing(whole, other)) == {"seed", "data.seed", "augment.pca"}
    assert differing({"a": 1.0}, {"a": 1.0, "b": None}) == ["b"]
    assert [format_value(value) for value in (True, 2.0, 0.01, None, "relu")] == ["true", "2", "0.01", "null", "relu"]


def test_a_command_for_any_machine() -> None:
    words = ["train.py", "model.lrn=false", "outputs=/a", "data.root=/b", "data.cache_dir=/c", "logger.csv.name=x"]
    assert portable_command([*words, "init_from=/d/best.ckpt", "run_dir=/e", "logger=csv", "data.root_of=3"]) == [
        *("train.py", "model.lrn=false", "data.root=FOLDER", "init_from=FOLDER", "data.root_of=3"),
    ]
