"""Runs a job of a sweep: assigns its GPUs, skips it if it was done before, resumes it if it was stopped."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from alexnet.config import build
from alexnet.data import ImageDataModule
from alexnet.errors import UserError
from alexnet.run_dir import free_job_dir, read_metrics, read_run_json, run_status, runs_by_digest, shown
from alexnet.run_identity import digest
from alexnet.sweeps.gpus import take_gpus
from alexnet.training.logging import silence_lightning
from alexnet.training.metadata import current_code, recorded_code
from alexnet.training.resume import read_resume_state
from alexnet.training.run import monitored_value
from alexnet.training.trainer import resolve_trainer


def run_job(cfg: DictConfig, train: Callable[..., float]) -> float:
    """Runs a job of a sweep by `train`, unless the sweep has such a run. Returns the monitored metric."""
    silence_lightning()
    take_gpus(cfg)  # before anything asks what the GPU can do, and so begins to use it
    config_digest = digest(cfg)
    finished = find_finished_run(cfg, config_digest)
    if finished is not None:
        return monitored_value(finished)
    run_dir = free_job_dir(cfg, config_digest)
    if can_resume(cfg, run_dir):
        cfg.resume = str(run_dir)
    if cfg.study is None:
        return train(cfg)
    from alexnet.sweeps.estimate import FirstEstimate  # of studies, which may have been deleted

    return train(cfg, callbacks=[FirstEstimate()])


def find_finished_run(cfg: DictConfig, config_digest: str) -> dict[str, Any] | None:
    """Returns the metrics.json of a finished run with the same settings, images and precision, or None.

    Args:
        cfg: of the job; the run's folder is noted in it.
        config_digest: of its settings.
    """
    for folder in runs_by_digest(Path(HydraConfig.get().sweep.dir)).get(config_digest, []):
        known = read_run_json(folder)
        if run_status(folder) != "done":
            continue
        if not _has_same_inputs(cfg, known):
            continue
        with open_dict(cfg):
            cfg.run_dir = str(folder)
        commit = str(known["git_commit"])[:7]
        other = "" if recorded_code(folder) == current_code() else f", by another version of the code ({commit})"
        print(f"done before{other}: {shown(folder)}", flush=True)
        return read_metrics(folder)
    return None


def can_resume(cfg: DictConfig, run_dir: Path) -> bool:
    """Returns whether a run of these settings left a state to resume from.

    It must be of the same images, precision and code.
    """
    known = read_run_json(run_dir)
    if not known or not _has_same_inputs(cfg, known):
        return False
    try:
        return recorded_code(run_dir) == current_code() and read_resume_state(run_dir) is not None
    except UserError:  # it is damaged
        return False


def _has_same_inputs(cfg: DictConfig, known: dict[str, Any]) -> bool:
    return (known["data"]["fingerprint"], known["precision"]) == (_fingerprint(cfg), _precision(cfg))


def _fingerprint(cfg: DictConfig) -> str:
    data = cast(dict[str, Any], OmegaConf.to_container(cfg.data, resolve=True))
    return _fingerprint_of(json.dumps(data | {"seed": 0}))


@cache
def _fingerprint_of(data: str) -> str:
    """Returns the fingerprint of the images that a data config describes, which a sweep opens once."""
    images: ImageDataModule = build(OmegaConf.create({"data": json.loads(data)}), "data")
    images.setup()
    return images.info.fingerprint


def _precision(cfg: DictConfig) -> str:
    cfg = cfg.copy()
    resolve_trainer(cfg)
    return cfg.trainer.precision
