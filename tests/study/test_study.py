"""Questions as files, and the runs that they become."""

import csv
import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from alexnet.errors import UserError
from alexnet.sweeps.study import arms_of, check_study
from tests.conftest import ROOT, Once, digits, options, program, slow, train_py

STUDIES = options("study")
TASK = {"_target_": "alexnet.training.tasks.ImageClassifier"}
TINY = (
    *("trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1"),
    *("trainer.limit_test_batches=1", "data.batch_size=8", "data.size=80", "data.crop=67", "logger=none"),
)
ONE_BY_ONE = "study.jobs=1"  # tiny runs are over before another process has begun


def runs(folder: Path, study: str) -> list[dict]:
    """The configs of the finished runs, in their order."""
    found = sorted(folder.glob(f"study/{study}-*/*/metrics.json"), key=lambda path: path.stat().st_mtime)
    return [yaml.safe_load((path.parent / "config.yaml").read_text()) for path in found]


def run_study(once: Once, name: str) -> Path:
    """The outputs of a study with one seed and few images. What it says is in said.txt."""

    def run(path: Path) -> None:
        width = "0.125,0.25" if name == "width" else "0.125"
        digits = ("model=alexnet", "data=digits") if name in ("figure_1", "lenet") else ()
        line = (f"study={name}", *digits, f"model.width={width}", "seed=7", "after=none", ONE_BY_ONE, *TINY)
        (path / "said.txt").write_text(train_py(*line, f"outputs={path}").stdout)

    return once(f"study_{name}", run)


@slow
@pytest.mark.parametrize("name", STUDIES)
def test_every_study_runs(name: str, once: Once) -> None:
    outputs = run_study(once, name)
    study = yaml.safe_load((ROOT / "conf" / "study" / f"{name}.yaml").read_text())
    varied = study["hydra"]["sweeper"]["params"]
    assert next(iter(varied)) == "seed", "seeds vary slowest"
    (key,) = set(varied) - {"seed"}
    values = ["0.125", "0.25"] if name == "width" else str(varied[key]).split(",")
    if name == "augmentation":  # which digits do not have
        assert "no_flip                  the same as the baseline here\n" in (outputs / "said.txt").read_text()
        values.remove("no_flip")
        del study["study"]["arms"]["no_flip"]
    if name == "figure_1":
        assert ": train/top1>=0.75 not reached, " in (outputs / "said.txt").read_text()
    configs = runs(outputs, name)
    assert [config["seed"] for config in configs] == [7] * len(values)
    assert not any(config["panels"] for config in configs)
    chosen = [str(OmegaConf.select(OmegaConf.create(config), key)) for config in configs]
    assert [text.lower() for text in chosen] == values
    if key == "study.arm":
        assert values == list(study["study"]["arms"])
        for config, overrides in zip(configs, study["study"]["arms"].values(), strict=True):
            for override in overrides:
                where, _, value = override.partition("=")
                got = OmegaConf.select(OmegaConf.create(config), where)
                assert got == OmegaConf.create(f"x: {value}").x if "." in where else got["crop"] is False


@slow
@digits
def test_an_arm_of_a_study_is_repeated_alone(once: Once, tmp_path: Path) -> None:
    arm = run_study(once, "lrn_formula") / "study" / "lrn_formula-digits-alexnet" / "tower,seed=7"
    again = train_py(f"reproduce='{arm}'", f"outputs={tmp_path}/again").stdout
    assert again.count("the same\n") == 9
    (folder,) = (tmp_path / "again").glob("*/*")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["seed"], config["model"]["lrn_window"], config["study"]) == (7, "tower", None)


@slow
def test_seeds_and_values_are_replaced_by_the_command_line(tmp_path: Path) -> None:
    line = ("study=dropout", "seed=4,5", "model.dropout=0.3,0.1", "model.width=0.125", ONE_BY_ONE, *TINY)
    train_py(*line, f"outputs={tmp_path}")
    found = [(config["seed"], config["model"]["dropout"]) for config in runs(tmp_path, "dropout")]
    assert found == [(4, 0.3), (4, 0.1), (5, 0.3), (5, 0.1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study=parts", "model.lrn=true"], "model.lrn=true: the study's arm no_lrn sets this"),
        (["study=parts", "study.margin=0"], "study.margin=0: must be a number above 0"),
        (["study=parts", "study.metric=test/f2", "metrics=f1"], "study.metric=test/f2: no run would have it"),
        (["study=parts", "study.metric=top1"], "study.metric=top1: must be a metric"),
        (["study=parts", "study.mode=min"], "study.mode=min: the best test/top1 is the maximum"),
        (["study=lrn", "study.digits_test_fraction=2"], "study.digits_test_fraction=2: must be a number above 0"),
        (["study=parts", "study.arm=no_lnr"], "study.arm=no_lnr: must be one of whole, no_lrn"),
        (["study=parts", "study.until=answered"], "seed=: study.until=answered takes seeds 1, 2, 3"),
        (["study=parts", "study.until=soon"], "study.until=soon: must be answered"),
        (["study=parts", "study.until=answered", "study.max_seeds=51"], "study.max_seeds=51: must be a whole number"),
        (["study=parts", "study.max_seeds=9"], "study.max_seeds: has no effect without study.until=answered"),
        (["study=parts", "hydra/sweeper=search"], "hydra/sweeper=search: not in a study"),
        (["study=prats"], "study=prats: must be one of"),
        (["study=parts", "+study.marign=1"], "study.marign: no such key. Did you mean margin?"),
    ],
)
def test_mistakes(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = train_py(*arguments, "seed=1", f"outputs={tmp_path}/o", code=1)
    assert f"error: {message}" in done.stderr or f": {message}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o").exists()


@slow
def test_any_metric_of_a_run_can_be_compared(tmp_path: Path) -> None:
    """Its intervals are for new seeds alone."""
    line = ("study=groups", "study.metric=test/f1", "metrics=f1", "seed=1,2,3", "model.width=0.125", ONE_BY_ONE, *TINY)
    said = train_py(*line, f"outputs={tmp_path}").stdout
    (folder,) = (tmp_path / "study").iterdir()
    report = (folder / "report.md").read_text()
    assert re.search(r"\| +test/f1 \|", report)
    assert "95% intervals for new seeds on these test images" in report
    assert ": test/f1 0." in said
    rows = list(csv.DictReader((folder / "report.csv").open()))
    for row in rows:
        metrics = json.loads((folder / row["folder"] / "metrics.json").read_text())
        assert float(row["test/f1"]) == pytest.approx(metrics["test"]["f1"])
    other = program(
        sys.executable, "report.py", str(folder), "--metric", "val/f1", "--mode", "min", f"--out={tmp_path}/o"
    )
    assert re.search(r"\| +val/f1 \|", other.stdout)


@digits
@pytest.mark.parametrize(
    ("line", "share"),
    [
        (["study=lrn"], "0.3"),
        (["study=lrn", "data.test_fraction=0.5"], "0.5"),
        (["study=lrn", "data=fake"], "null"),
        ([], "null"),
    ],
)
def test_studies_test_more_of_the_digits(line: list[str], share: str) -> None:
    said = train_py(*line, "--cfg", "job", "--package", "data", "--resolve").stdout
    assert f"\ntest_fraction: {share}\n" in f"\n{said}"


def test_an_arm_is_a_list_of_overrides() -> None:
    study = OmegaConf.create({"question": "?", "metric": "test/top1", "margin": 0.01, "arms": {"a": "model.lrn=false"}})
    with pytest.raises(UserError, match=r"study.arms: must be names with a list of overrides each"):
        arms_of(study)
    study.arms = {"a": [], "b": ["seed=3"]}
    with pytest.raises(UserError, match=r"study.arms.b: sets the seed"):
        check_study(OmegaConf.create({"study": study, "metrics": {}, "task": TASK}), [])
    study.arms = None
    cfg = OmegaConf.create({"study": study, "metrics": {}, "task": TASK})
    check_study(cfg, ["model.lrn=false"])
    cfg.task._target_ = "alexnet.training.tasks.ImageRegressor"
    with pytest.raises(UserError, match=r"study.metric=test/top1: no run would have it"):
        check_study(cfg, [])
