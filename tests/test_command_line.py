"""Overrides as a user types them, and as the program prints them."""

import random
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from alexnet.overrides import for_hydra, quoted
from tests.conftest import has, train_py


def value(argument: str) -> object:
    """As Hydra reads it, also where it writes the value out again for a job of a sweep."""
    override = OverridesParser.create().parse_override(argument)
    again = OverridesParser.create().parse_override(f"key={override.get_value_element_as_str()}")
    assert again.value() == override.value()
    return override.value()


def test_quoted_text_is_read_as_it_was() -> None:
    draw = random.Random(1)
    for _ in range(2000):
        text = "".join(draw.choices("ab\\'\" ,=[]{}$:()~*/é", k=draw.randint(1, 8)))
        if "${" not in text:
            assert value(f"key={quoted(text)}") == text


@pytest.mark.parametrize(
    "key", ["resume", "reproduce", "init_from", "run_dir", "outputs", "data.root", "data.cache_dir"]
)
@pytest.mark.parametrize(
    "path",
    ["outputs/study/model.lrn=true,seed=1", "my runs/1", "runs (1)", "[a]", "{a}", "it's", "12", "true", "a,b", " a "],
)
def test_a_path_is_taken_as_typed(key: str, path: str) -> None:
    (argument,) = for_hydra([f"{key}={path}"])
    assert value(argument) == path


@pytest.mark.parametrize(
    "argument",
    ["resume='my runs/1'", 'init_from="a=b"', "run_dir=null", "data.root=${outputs}/new", "data.root=s3://a/b"],
)
def test_what_hydra_reads_already_is_left_alone(argument: str) -> None:
    assert for_hydra([argument]) == [argument]


def test_a_home_directory_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/o'b=1, 2")
    assert value(*for_hydra(["data.root=~/images"])) == "/home/o'b=1, 2/images"
    assert value(*for_hydra(["model.weights=~/x.pt"])) == "/home/o'b=1, 2/x.pt"


def test_a_sweep_over_weights_is_a_choice(tmp_path: Path) -> None:
    assert for_hydra(["-m", "init_from=a,b"]) == ["-m", "init_from=a,b"]
    both = tmp_path / "a,b"
    both.mkdir()
    assert value(for_hydra(["-m", f"init_from={both}"])[1]) == str(both)


def test_the_flag_of_a_sweep_may_stand_anywhere() -> None:
    assert for_hydra(["model=lenet", "-m", "seed=1,2"]) == ["-m", "model=lenet", "seed=1,2"]


def test_a_preset_may_be_taken_away() -> None:
    assert for_hydra(["experiment=null"]) == ["~experiment"]
    default = train_py("--cfg", "job").stdout
    assert train_py("experiment=null", "--cfg", "job").stdout == default
    if has("study"):
        assert train_py("experiment=null", "study=null", "--cfg", "job").stdout == default


def test_a_study_is_a_sweep() -> None:
    assert for_hydra(["--config-dir", "conf", "study=lrn", "seed=1"]) == [
        "--config-dir", "conf", "hydra.mode=MULTIRUN", "study=lrn", "seed=1"
    ]  # fmt: skip
    assert for_hydra(["-m", "study=lrn"]) == ["-m", "study=lrn"]
    assert for_hydra(["study=null"]) == ["~study"]
