"""Assigns GPUs to the jobs of a sweep that run side by side on one machine."""

import os
import tempfile
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from alexnet.run_dir import in_sweep

BESIDE = ("joblib", "submitit_local")  # launchers that start jobs side by side here, and leave the GPUs to them
_held: list[FileLock] = []  # by this process, until it ends: once CUDA has begun, its GPUs cannot be others


def take_gpus(cfg: DictConfig) -> None:
    """Assigns to this process trainer.devices GPUs that no other job of the user has taken.

    Else all jobs would compute on the first. They are named in CUDA_VISIBLE_DEVICES, so that the run's config stays as
    it is. Where all are taken the jobs share them evenly, by their numbers.
    """
    wanted = cfg.trainer.devices
    if not in_sweep() or HydraConfig.get().runtime.choices.get("hydra/launcher") not in BESIDE:
        return
    if _held or cfg.trainer.accelerator == "cpu" or not isinstance(wanted, int) or torch.cuda.is_initialized():
        return
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = (
        [gpu for gpu in named.split(",") if gpu]
        if named is not None
        else list(map(str, range(torch.cuda.device_count())))
    )
    if not 0 < wanted < len(gpus):
        return
    first = int(HydraConfig.get().job.num) * wanted
    order = [gpus[(first + i) % len(gpus)] for i in range(len(gpus))]
    taken = _taken(order, wanted) or order[:wanted]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)


def _taken(order: list[str], wanted: int) -> list[str]:
    """Returns the first free GPUs, which are locked; none if there are too few."""
    folder = Path(tempfile.gettempdir(), f"alexnet-gpus-{os.getuid()}")
    locks = []
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for gpu in order:
            lock = FileLock(folder / f"{gpu.replace('/', '-')}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            locks.append((gpu, lock))
            if len(locks) == wanted:
                _held.extend(lock for _, lock in locks)
                return [gpu for gpu, _ in locks]
    except (OSError, NotImplementedError):  # a folder of somebody else's, or a file system without locks
        pass
    for _, lock in locks:
        lock.release()
    return []
