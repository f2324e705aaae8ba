"""A study that runs until it is answered: what it runs next, what it says, and how it goes on when typed again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from omegaconf import DictConfig, OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alexnet.errors import UserError
from alexnet.study_adapter.report import report
from alexnet.sweeps import until
from alexnet.sweeps.board import log_report
from tests.conftest import ROOT, digits, needs, program, slow, train_py
from tests.study.fakes import STUDY, fake_run
from tests.study.test_study import TINY

Bits = Callable[[str, int], np.ndarray]
IMAGES = 400


def shares(**of_arms: float) -> Bits:
    """Which of the test images a run has right: of an arm this share, other images for each seed."""

    def bits(arm: str, seed: int) -> np.ndarray:
        draw = np.random.default_rng([seed, sorted(of_arms).index(arm)])
        return draw.permutation(IMAGES) < round(IMAGES * of_arms[arm] + draw.normal(0, 2))

    return bits


class FakeLauncher:
    """Writes the run directories that jobs would leave. failing: arms and seeds whose runs fail."""

    def __init__(self, folder: Path, bits: Bits, failing: set[tuple[str, int]] | None = None) -> None:
        self.folder, self.bits, self.failing = folder, bits, failing or set()
        self.batches: list[list[tuple[str, int]]] = []

    def __call__(self, jobs: list[list[str]]) -> None:
        self.batches.append([arm_and_seed(job) for job in jobs])
        for arm, seed in self.batches[-1]:
            state = "failed" if (arm, seed) in self.failing else "done"
            place = sorted(self.folder.glob(f"{arm},seed={seed}"))
            if not place:
                fake_run(
                    self.folder / f"{arm},seed={seed}", seed, self.bits(arm, seed), arm, state,
                    model__name=arm, study=STUDY,
                )  # fmt: skip

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for batch in self.batches for _, seed in batch})


def arm_and_seed(overrides: list[str]) -> tuple[str, int]:
    values = dict(override.split("=") for override in overrides)
    return values["study.arm"], int(values["seed"])


@pytest.fixture
def plan_without_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    def planned(overrides: list[str]) -> dict[str, Any]:
        arm, seed = arm_and_seed(overrides)
        settings = {"model.name": arm, "seed": seed}
        digest = f"{arm}/{seed}" if arm != "twin" else f"a/{seed}"
        return {"arm": arm, "seed": seed, "settings": settings, "config_digest": digest, "state": None, "began": None}

    monkeypatch.setattr(until, "plan_jobs", lambda _, jobs: list(map(planned, jobs)))


def config(folder: Path, arms: str = "a,b", margin: float = 0.05, max_seeds: int = 30) -> DictConfig:
    study = STUDY | {"margin": margin, "until": "answered", "max_seeds": max_seeds, "paper": None}
    choices = {"study": "fake", "hydra/launcher": "basic"}
    hydra = {
        "sweep": {"dir": str(folder)}, "runtime": {"choices": choices}, "launcher": {},
        "sweeper": {"params": {"seed": "1,2,3", "study.arm": arms}}, "overrides": {"task": []},
    }  # fmt: skip
    return OmegaConf.create({"study": study, "hydra": hydra, "logger": None})


without_hydra = pytest.mark.usefixtures("plan_without_hydra")


@without_hydra
def test_it_stops_at_the_first_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launch = FakeLauncher(tmp_path, shares(a=0.9, b=0.5))
    until.run_until_answered(config(tmp_path), launch)
    assert launch.batches[0] == [(arm, seed) for seed in (1, 2, 3) for arm in "ab"], "all up to the first look"
    assert [len(batch) for batch in launch.batches[1:]] == [2] * (len(launch.batches) - 1), "a pair for each look after"
    said = capsys.readouterr().out
    looks = [line for line in said.splitlines() if " pairs: b " in line]
    assert len(looks) == len(launch.batches)
    assert looks[-1].endswith(": worse")
    assert "first look after 6 jobs, at most 60\n" in said


@without_hydra
def test_typed_again_it_runs_nothing_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    until.run_until_answered(config(tmp_path), FakeLauncher(tmp_path, shares(a=0.9, b=0.5)))
    answer = capsys.readouterr().out.splitlines()[-1]
    again = FakeLauncher(tmp_path, shares(a=0.9, b=0.5))
    until.run_until_answered(config(tmp_path), again)
    assert not again.batches
    assert capsys.readouterr().out.splitlines()[-1] == answer


@without_hydra
def test_runs_that_were_done_before_do_not_make_the_rest_look_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were trained for 10 s each, and are read in no time."""
    plan = until.plan_jobs
    monkeypatch.setattr(until, "plan_jobs", lambda *of: [job | {"state": "done"} for job in plan(*of)])
    until.run_until_answered(config(tmp_path, margin=0.02, max_seeds=4), FakeLauncher(tmp_path, shares(a=0.8, b=0.78)))
    assert re.search(r"^3 pairs: b .*: 20 s more$", capsys.readouterr().out, re.M)


@without_hydra
def test_stopped_anywhere_it_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """Killed after each number of runs in turn."""
    bits = shares(a=0.8, b=0.78)
    whole = FakeLauncher(tmp_path / "whole", bits)
    until.run_until_answered(config(tmp_path / "whole", margin=0.02, max_seeds=8), whole)
    answer = json.loads((report([tmp_path / "whole"])[0] / "report.json").read_text())["until"]
    total = sum(map(len, whole.batches))

    class Killed(FakeLauncher):
        def __call__(self, jobs: list[list[str]]) -> None:
            super().__call__(jobs[:1])
            raise KeyboardInterrupt

    folder = tmp_path / "killed"
    for _ in range(total):
        with pytest.raises(KeyboardInterrupt):
            until.run_until_answered(config(folder, margin=0.02, max_seeds=8), Killed(folder, bits))
    last = FakeLauncher(folder, bits)
    until.run_until_answered(config(folder, margin=0.02, max_seeds=8), last)
    assert not last.batches
    assert json.loads((report([folder])[0] / "report.json").read_text())["until"] == answer
    assert (folder / "report.md").read_text() == (tmp_path / "whole" / "report.md").read_text()


@without_hydra
def test_an_answered_arm_is_run_no_more(tmp_path: Path) -> None:
    launch = FakeLauncher(tmp_path, shares(a=0.8, b=0.3, c=0.8))
    until.run_until_answered(config(tmp_path, "a,b,c", margin=0.012, max_seeds=9), launch)
    assert launch.batches[0] == [(arm, seed) for seed in range(1, 6) for arm in "abc"], "five pairs of several arms"
    assert all(batch == [("a", seed), ("c", seed)] for seed, batch in enumerate(launch.batches[1:], 6))
    assert launch.seeds[-1] == 8
    _, said = report([tmp_path])
    assert "b: answered after 5 pairs." in said
    assert "c: answered after 8 pairs." in said


@without_hydra
def test_before_the_first_look_there_is_no_interval(tmp_path: Path) -> None:
    """Of three arms after three pairs, where a study of a fixed number of seeds would have one."""

    class Interrupted(FakeLauncher):
        def __call__(self, jobs: list[list[str]]) -> None:
            super().__call__(jobs[:9])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        until.run_until_answered(config(tmp_path, "a,b,c"), Interrupted(tmp_path, shares(a=0.8, b=0.3, c=0.8)))
    _, said = report([tmp_path])
    assert said.count("no verdict: the first look is after 5 pairs") == 2
    assert "No interval before the first look." in said


@without_hydra
def test_pairs_that_are_all_equal_are_given_up(tmp_path: Path) -> None:
    def bits(_: str, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).permutation(IMAGES) < 300

    launch = FakeLauncher(tmp_path, bits)
    until.run_until_answered(config(tmp_path), launch)
    assert launch.seeds == [1, 2, 3, 4, 5]
    assert "b: given up after 5 pairs, which all differ by the same" in report([tmp_path])[1]


@without_hydra
def test_more_seeds_go_on_from_where_it_ended(tmp_path: Path) -> None:
    bits = shares(a=0.8, b=0.79)
    until.run_until_answered(config(tmp_path, margin=0.02, max_seeds=3), FakeLauncher(tmp_path, bits))
    more = FakeLauncher(tmp_path, bits)
    until.run_until_answered(config(tmp_path, margin=0.02, max_seeds=6), more)
    assert more.seeds == [4, 5, 6]


@without_hydra
def test_a_failed_seed_is_replaced_and_stays_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bits = shares(a=0.8, b=0.79)
    launch = FakeLauncher(tmp_path, bits, {("b", 2)})
    until.run_until_answered(config(tmp_path, margin=0.02, max_seeds=4), launch)
    assert launch.seeds == [1, 2, 3, 4, 5]
    assert "seed 2: left out, since a run failed" in capsys.readouterr().out
    again = FakeLauncher(tmp_path, bits)
    until.run_until_answered(config(tmp_path, margin=0.02, max_seeds=5), again)
    assert again.seeds == [6], "a seed that a look has passed over is not tried again"
    _, said = report([tmp_path])
    assert "seed 2 left out, since a run failed" in said
    assert "b, seed 2: failed" in said


@without_hydra
def test_before_a_look_a_failed_seed_is_tried_again(tmp_path: Path) -> None:
    bits = shares(a=0.8, b=0.79)
    all_of_b = FakeLauncher(tmp_path, bits, {("b", seed) for seed in range(50)})
    with pytest.raises(UserError, match=r"more seeds without a result than with one \(seeds 1, 2, 3\)"):
        until.run_until_answered(config(tmp_path), all_of_b)
    for folder in tmp_path.glob("b,*"):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    launch = FakeLauncher(tmp_path, bits)
    until.run_until_answered(config(tmp_path, max_seeds=3), launch)
    assert {seed for arm, seed in launch.batches[0] if arm == "b"} == {1, 2, 3}


@without_hydra
def test_a_launcher_that_breaks_off_loses_its_jobs_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(FakeLauncher):
        def __call__(self, jobs: list[list[str]]) -> None:
            super().__call__(jobs[:-1] if len(self.batches) == 0 else jobs)
            if len(self.batches) == 1:
                raise RuntimeError("a job was killed")

    launch = Broken(tmp_path, shares(a=0.8, b=0.79))
    until.run_until_answered(config(tmp_path, max_seeds=3), launch)
    assert launch.seeds == [1, 2, 3, 4]
    assert "RuntimeError: a job was killed" in capsys.readouterr().err


@without_hydra
def test_a_launcher_that_cannot_start_keeps_its_trace(tmp_path: Path) -> None:
    def launch(_: list[list[str]]) -> None:
        raise RuntimeError("no sbatch")

    with pytest.raises(RuntimeError, match="no sbatch"):
        until.run_until_answered(config(tmp_path), launch)


@without_hydra
def test_another_question_after_the_first_look_is_said(tmp_path: Path) -> None:
    bits = shares(a=0.8, b=0.79)
    until.run_until_answered(config(tmp_path, margin=0.02, max_seeds=4), FakeLauncher(tmp_path, bits))
    until.run_until_answered(config(tmp_path, margin=0.03, max_seeds=4), FakeLauncher(tmp_path, bits))
    assert "Asked otherwise (margin 0.02) for the first 4 pairs" in report([tmp_path])[1]
    said = report([tmp_path], tmp_path / "other", metric="test/top5", margin=0.03)[1]
    assert "Asked otherwise (metric test/top1) for the first 4 pairs" in said


@without_hydra
def test_runs_of_other_settings_do_not_count(tmp_path: Path) -> None:
    """The same study with another number of epochs has its runs in the same directory."""
    bits = shares(a=0.9, b=0.5)
    for seed in (1, 2, 3):
        for arm in "ab":
            others = {"model__name": arm, "model__dropout": 0.9, "record__config_digest": f"other/{arm}/{seed}"}
            fake_run(tmp_path / f"{arm}-{seed}", seed, bits(arm, seed), arm, study=STUDY, **others)
    launch = FakeLauncher(tmp_path, bits)
    until.run_until_answered(config(tmp_path), launch)
    assert len(launch.batches[0]) == 6
    assert "6 runs with other settings (model.dropout)" in report([tmp_path])[1]


@without_hydra
def test_further_seeds_change_no_verdict(tmp_path: Path) -> None:
    until.run_until_answered(config(tmp_path), FakeLauncher(tmp_path, shares(a=0.9, b=0.5)))
    _, before = report([tmp_path])
    other = shares(a=0.5, b=0.9)
    for seed in (31, 32):
        for arm in "ab":
            fake_run(tmp_path / f"{arm}-{seed}", seed, other(arm, seed), arm, model__name=arm, study=STUDY)
    _, said = report([tmp_path])
    assert said.splitlines()[0] == before.splitlines()[0]
    assert "seeds 31, 32 were run as well and change no verdict. With them: b " in said


@without_hydra
def test_a_report_is_made_again_of_its_table(tmp_path: Path) -> None:
    until.run_until_answered(config(tmp_path / "runs"), FakeLauncher(tmp_path / "runs", shares(a=0.9, b=0.5)))
    report([tmp_path / "runs"], tmp_path / "page")
    text = (tmp_path / "page" / "report.md").read_text()
    assert "interval (95% over all looks)" in text
    assert "## Looks" in text
    assert (tmp_path / "page" / "looks.png").stat().st_size > 1000
    report([tmp_path / "page"])
    assert (tmp_path / "page" / "report.md").read_text() == text


@without_hydra
@pytest.mark.parametrize(
    ("arms", "changes", "message"),
    [
        ("a", {}, "one arm alone"),
        ("a,twin", {}, "one arm alone"),
        ("a,b,c", {"max_seeds": 4}, "study.max_seeds=4: must be at least 5"),
        ("a,b,c,d,e,f,g,h,i,j", {}, "9 arms beside the baseline"),
    ],
)
def test_what_no_look_can_answer(arms: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    launch = FakeLauncher(tmp_path, shares(a=1))
    with pytest.raises(UserError, match=message):
        until.run_until_answered(config(tmp_path, arms, **changes), launch)
    assert not launch.batches


@without_hydra
def test_two_processes_do_not_continue_one_study(tmp_path: Path) -> None:
    def second(_: list[list[str]]) -> None:
        until.run_until_answered(config(tmp_path), FakeLauncher(tmp_path, shares(a=0.9, b=0.5)))

    with pytest.raises(UserError, match="another process continues this study"):
        until.run_until_answered(config(tmp_path), second)


@without_hydra
def test_jobs_side_by_side_are_of_further_seeds(tmp_path: Path) -> None:
    asked = config(tmp_path, margin=0.02, max_seeds=12)
    asked.hydra.runtime.choices["hydra/launcher"] = "joblib"
    asked.hydra.launcher = {"n_jobs": 4}
    launch = FakeLauncher(tmp_path, shares(a=0.8, b=0.79))
    until.run_until_answered(asked, launch)
    assert [len(batch) for batch in launch.batches[:2]] == [6, 4]


@without_hydra
def test_a_running_study_can_be_watched(tmp_path: Path) -> None:
    """Its looks are curves in TensorBoard, of which none comes twice, and its report text and images."""
    asked = config(tmp_path, margin=0.02, max_seeds=4)
    asked.logger = {"tensorboard": {"_target_": "pytorch_lightning.loggers.TensorBoardLogger"}}
    until.run_until_answered(asked, FakeLauncher(tmp_path, shares(a=0.8, b=0.79)))
    asked.study.max_seeds = 5
    until.run_until_answered(asked, FakeLauncher(tmp_path, shares(a=0.8, b=0.79)))
    _, said = report([tmp_path])
    log_report(tmp_path)
    seen = EventAccumulator(str(tmp_path))
    seen.Reload()
    curves = {name: seen.Scalars(f"looks b/{name}") for name in ("difference", "low", "high")}
    assert [point.step for point in curves["low"]] == [3, 4, 5]
    shown = " to ".join(f"{curves[name][-1].value:+.2f}" for name in ("low", "high"))
    assert shown in said
    assert {f"report/{name}" for name in ("looks", "differences", "pairs", "curves")} == set(seen.Tags()["images"])
    assert b"## Looks" in seen.Tensors("report/text_summary")[0].tensor_proto.string_val[0]


@slow
@digits
def test_killed_it_goes_on_with_another_launcher(tmp_path: Path) -> None:
    line = ("study=groups", "study.until=answered", "study.max_seeds=4", "model.width=0.125", "after=none", *TINY)
    first = subprocess.Popen(
        [sys.executable, "train.py", *line, "study.jobs=1", f"outputs={tmp_path}"], cwd=ROOT,
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert first.stdout is not None
    assert any(text.startswith("[3/6]") for text in first.stdout)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    said = program(sys.executable, "train.py", *line, f"outputs={tmp_path}", "hydra/launcher=joblib").stdout
    assert [text.split(":")[0] for text in said.splitlines() if " pairs: " in text] == ["3 pairs", "4 pairs"]
    (folder,) = (tmp_path / "study").iterdir()
    done = sorted(path.parent.name for path in folder.glob("*/metrics.json"))
    assert done == sorted(f"model.groups={groups},seed={seed}" for groups in (2, 1) for seed in (1, 2, 3, 4))
    _, text = report([folder])
    assert "model.groups=1: no answer after 4 pairs, the most that were asked" in text


@slow
@digits
def test_a_run_that_fails_is_replaced(tmp_path: Path) -> None:
    """A file lies where its directory should be. The program says so, and ends with 1."""
    folder = tmp_path / "study" / "groups-digits-alexnet"
    folder.mkdir(parents=True)
    (folder / "model.groups=1,seed=2").write_text("")
    line = ("study=groups", "study.until=answered", "study.max_seeds=3", "study.jobs=1", "model.width=0.125", *TINY)
    done = train_py(*line, f"outputs={tmp_path}", code=1)
    assert "seed 2: left out, since a run failed" in done.stdout
    assert (folder / "model.groups=1,seed=4" / "metrics.json").exists()
    assert "seed 2 left out, since a run failed" in (folder / "report.md").read_text()


class Pool(FakeLauncher):
    """Takes runs of one network for both arms, each with a seed of its own: so there is no difference."""

    def __init__(self, folder: Path, runs: Path, first: int) -> None:
        super().__init__(folder, shares())
        self.runs, self.first = runs, first

    def __call__(self, jobs: list[list[str]]) -> None:
        for arm, seed in map(arm_and_seed, jobs):
            run = self.folder / f"{arm},seed={seed}"
            shutil.copytree(self.runs / f"seed={self.first + 2 * seed + 'ab'.index(arm)}", run)
            settings = yaml.safe_load((run / "config.yaml").read_text())
            settings |= {"seed": seed, "study": STUDY, "model": {"name": arm}}
            settings["data"]["seed"] = seed
            (run / "config.yaml").write_text(yaml.safe_dump(settings))
            record = json.loads((run / "run.json").read_text())
            (run / "run.json").write_text(json.dumps(record | {"arm": arm, "config_digest": f"{arm}/{seed}"}))


@slow
@digits
@needs("model", "lenet")
@without_hydra
def test_no_difference_is_seldom_found_where_there_is_none(tmp_path: Path) -> None:
    """Twenty studies of 480 real runs, up to 12 pairs each, until answered."""
    studies, pairs = 20, 12
    small = ("model=lenet", "data=digits", "model.activation=relu", "optimizer.lr=0.02", "trainer.max_epochs=4")
    quiet = ("panels=none", "logger=none", "callbacks=none", "after=none", f"outputs={tmp_path}/runs")
    seeds = f"seed=range(2,{2 + 2 * studies * pairs})"
    subprocess.run([sys.executable, "train.py", "-m", seeds, *small, *quiet], cwd=ROOT, check=True, capture_output=True)
    (runs,) = (tmp_path / "runs").glob("*/*")
    verdicts = []
    for number in range(studies):
        folder = tmp_path / f"study{number}"
        until.run_until_answered(config(folder, margin=0.02, max_seeds=pairs), Pool(folder, runs, 2 * pairs * number))
        verdicts.append(report([folder])[1].splitlines()[0])
    wrong = [verdict for verdict in verdicts if " is better than " in verdict or " is worse than " in verdict]
    assert len(wrong) <= 2, verdicts
    assert any("equivalent within 2 points" in verdict for verdict in verdicts), verdicts
