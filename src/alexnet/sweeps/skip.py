"""A sweep that is typed again: a job that is done is read and not run, and one that was stopped goes on."""

import json
from functools import cache
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf, open_dict

from alexnet.config import build
from alexnet.data import ImageDataModule
from alexnet.errors import UserError
from alexnet.run_dir import record, result_of, same_settings, state_of
from alexnet.training.build import try_trainer
from alexnet.training.metadata import code_now, code_of
from alexnet.training.resume import kept


def done_before(cfg: DictConfig, asked: str) -> dict[str, Any] | None:
    """metrics.json of the run of this sweep that had the same settings, images and precision, if there is one; its
    folder is noted in `cfg`. asked: the settings' digest.
    """
    for folder in same_settings(asked):
        known = record(folder)
        if state_of(folder) != "done":
            continue
        if (known["data"]["fingerprint"], known["precision"]) != (_fingerprint(cfg), _precision(cfg)):
            continue
        with open_dict(cfg):
            cfg.folder = str(folder)
        commit = str(known["git_commit"])[:7]
        other = "" if code_of(folder) == code_now() else f", by another version of the code ({commit})"
        print(f"done before{other}: {folder}", flush=True)
        return result_of(folder)
    return None


def stopped_before(cfg: DictConfig, data: ImageDataModule) -> bool:
    """Whether cfg.folder, which is of a job of these settings, holds a state to go on from: of the same images,
    precision and code.
    """
    folder = Path(cfg.folder)
    known, now = record(folder), (data.about.fingerprint, cfg.trainer.precision)
    if not known or (known["data"]["fingerprint"], known["precision"]) != now:
        return False
    try:
        return code_of(folder) == code_now() and kept(folder) is not None
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
    return images.about.fingerprint


def _precision(cfg: DictConfig) -> str:
    cfg = cfg.copy()
    try_trainer(cfg)
    return cfg.trainer.precision
