"""Plans a study: its jobs before the first of them runs, kept in study.json."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, open_dict

from alexnet.config import build, check
from alexnet.config_errors import prefix_errors
from alexnet.errors import UserError
from alexnet.io import write_json
from alexnet.run_dir import read_run_json, run_status, runs_by_digest, swept_values
from alexnet.run_identity import differing, digest, format_value, result_affecting
from alexnet.study_adapter.records import PLAN, SEEDS, plan_of
from alexnet.sweeps.study import key_of, take_arm
from alexnet.validation import check_int

ANY_NUMBER = 10  # of classes


def plan_jobs(config: DictConfig, jobs: Iterable[list[str]]) -> list[dict[str, Any]]:
    """Returns the jobs before they run: arm, seed, settings, digest, and the state and start of an earlier run.

    Args:
        config: of the study, with `hydra`.
        jobs: the overrides of each, as jobs_of returns them.

    Raises:
        UserError: for a config that its run would refuse.
    """
    runs = runs_by_digest(Path(config.hydra.sweep.dir))
    arms: dict[tuple[str, ...], tuple[str, DictConfig]] = {}
    planned = []
    for overrides in jobs:
        arm = tuple(override for override in overrides if key_of(override) != "seed")
        if arm not in arms:  # to compose a config takes 0.1 s, and the seeds of an arm differ in the seed alone
            arms[arm] = _compose(config, arm)
        name, cfg = arms[arm]
        if seeds := [override for override in overrides if override not in arm]:
            cfg.seed = _seed(seeds[-1])
        planned.append(_planned(name, cfg, runs))
    return planned


def _compose(config: DictConfig, overrides: Sequence[str]) -> tuple[str, DictConfig]:
    """Returns an arm's name, and its checked config."""
    name = config.hydra.job.config_name
    cfg = hydra.compose(name, [*config.hydra.overrides.hydra, *overrides], return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.job.config_name, cfg.hydra.job.num = name, 0
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    take_arm(cfg)
    check(cfg)
    try_parts(cfg)
    return swept_values(cfg), cfg


def try_parts(cfg: DictConfig) -> None:
    """Builds what arms differ in most and no machine or image is needed for: augmentation, and the network's shapes.

    Raises:
        UserError: for what its run would refuse, perhaps hours after the study has begun.
    """
    build(cfg, "augment")
    if cfg.model.get("weights") is not None or cfg.model.get("devices") is not None:
        return  # files and GPUs may be those of another machine
    trial = cfg.copy()
    if trial.data.num_classes is None:  # counted by the run
        trial.data.num_classes = ANY_NUMBER
    try:
        with torch.device("meta"):
            build(trial, "model")
    except UserError:  # also of a library's network that needs real values, as torchvision's RegNet does
        build(trial, "model")
    except Exception:  # noqa: BLE001 (a network of the user's own may need real values; if it is wrong, its run says so)
        return


def _seed(override: str) -> int:
    with prefix_errors(""):
        return check_int("seed", OverridesParser.create().parse_override(override).value(), 0, 2**32 - 1)


def _planned(arm: str, cfg: DictConfig, runs_by_digest: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    settings = result_affecting(cfg)
    config_digest = digest(settings)
    runs = runs_by_digest.get(config_digest, [])
    states = [run_status(folder) for folder in runs]
    state = next((state for state in ("done", *states) if state in states), None)
    return {
        "arm": arm,
        "seed": cfg.seed,
        "settings": settings,
        "config_digest": config_digest,
        "state": state,
        "began": began_at(read_run_json(runs[states.index(state)])) if runs else None,
    }


def write_plan(config: DictConfig, folder: Path, jobs: list[dict[str, Any]], began: float) -> None:
    """Writes study.json: what was typed, and the jobs that `plan_jobs` returns.

    began: when this process began with them, as time.time().
    """
    before = plan_of(folder)
    varied = {str(key) for key in config.hydra.sweeper.get("params") or ()}
    varied |= {key for job in jobs for key in differing(jobs[0]["settings"], job["settings"])}
    plan = before | {
        "study": config.hydra.runtime.choices["study"],
        "typed": list(config.hydra.overrides.task),
        "began": began,
        # a line that asks for some arms alone resumes the study that has them all
        "arms": list(dict.fromkeys([*before.get("arms", ()), *(job["arm"] for job in jobs)])),
        "varied": sorted((varied | set(before.get("varied", ()))) - {*SEEDS, "study.arm"}),
        "jobs": list(map(_recorded, jobs)),
    }
    write_json(folder / PLAN, plan)


def _recorded(job: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what study.json holds of a job."""
    return {key: job[key] for key in ("arm", "seed", "config_digest", "state", "began")}


def began_at(info: Mapping[str, Any]) -> str | None:
    """Returns when a run began, or was last resumed."""
    return (info.get("resumed") or [info])[-1].get("started")


def told(jobs: list[dict[str, Any]]) -> list[str]:
    """Returns lines on how many jobs there are and in which state, and what each arm changes."""
    arms, seeds = {job["arm"] for job in jobs}, {job["seed"] for job in jobs}
    states = Counter(job["state"] for job in jobs)
    known = "".join(f", {states[s]} {s}" for s in ("done", "running", "interrupted", "failed") if states[s])
    number = "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
    return [f"  {len(jobs)} jobs, {len(arms)} arms with {number}{known}", *describe_arms(jobs)]


def describe_arms(jobs: list[dict[str, Any]]) -> list[str]:
    """Returns a line for each arm on what it changes against the first."""
    arms = {job["arm"]: job["settings"] for job in reversed(jobs)}
    arms = dict(reversed(arms.items()))
    lines = []
    baseline, *_ = arms.values()
    for arm, values in arms.items():
        keys = [key for key in differing(baseline, values) if key not in SEEDS]
        changed = " ".join(f"{key}={format_value(values.get(key))}" for key in keys)
        nothing = "baseline" if values is baseline else "the same as the baseline here"
        lines.append(f"  {arm:24} {changed or nothing}")
    return lines
