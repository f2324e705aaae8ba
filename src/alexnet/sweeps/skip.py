"""A sweep that is typed again: a job that is done is read and not run, and one that was stopped is resumed."""

import json
from functools import cache
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf, open_dict

from alexnet.config import build
from alexnet.data import ImageDataModule
from alexnet.errors import UserError
from alexnet.run_dir import read_metrics, read_run_json, run_status, runs_with_digest
from alexnet.training.build import resolve_trainer
from alexnet.training.metadata import current_code, recorded_code
from alexnet.training.resume import read_resume_state


def find_finished_run(cfg: DictConfig, config_digest: str) -> dict[str, Any] | None:
    """metrics.json of the run of this sweep that had the same settings, images and precision, if there is one; its
    folder is noted in `cfg`. config_digest: of the settings.
    """
    for folder in runs_with_digest(config_digest):
        known = read_run_json(folder)
        if run_status(folder) != "done":
            continue
        if (known["data"]["fingerprint"], known["precision"]) != (_fingerprint(cfg), _precision(cfg)):
            continue
        with open_dict(cfg):
            cfg.run_dir = str(folder)
        commit = str(known["git_commit"])[:7]
        other = "" if recorded_code(folder) == current_code() else f", by another version of the code ({commit})"
        print(f"done before{other}: {folder}", flush=True)
        return read_metrics(folder)
    return None


def can_resume(cfg: DictConfig, data: ImageDataModule) -> bool:
    """Whether cfg.run_dir, which is of a job of these settings, holds a state to resume from: of the same images,
    precision and code.
    """
    folder = Path(cfg.run_dir)
    known, now = read_run_json(folder), (data.info.fingerprint, cfg.trainer.precision)
    if not known or (known["data"]["fingerprint"], known["precision"]) != now:
        return False
    try:
        return recorded_code(folder) == current_code() and read_resume_state(folder) is not None
    except UserError:  # it is damaged
        return False


def _fingerprint(cfg: DictConfig) -> str:
    data = cast(dict[str, Any], OmegaConf.to_container(cfg.data, resolve=True))
    return _fingerprint_of(json.dumps(data | {"seed": 0}))


@cache
def _fingerprint_of(data: str) -> str:
    """Of the images that a data config says, which are opened once in a sweep."""
    images: ImageDataModule = build(OmegaConf.create({"data": json.loads(data)}), "data")
    images.setup()
    return images.info.fingerprint


def _precision(cfg: DictConfig) -> str:
    cfg = cfg.copy()
    resolve_trainer(cfg)
    return cfg.trainer.precision
