"""Decides how many jobs of a study run side by side on this machine: study.jobs."""

import os
from importlib.util import find_spec

from omegaconf import DictConfig, open_dict, read_write

from alexnet.cores import available_cores
from alexnet.errors import UserError

JOBLIB = "hydra_plugins.hydra_joblib_launcher"
MOST = 64  # jobs at a time, where there are fewer cores
MEMORY_OF_A_JOB = 2e9  # bytes, the most that the default run takes


def check_jobs(jobs: object) -> None:
    """Raises UserError for a study.jobs that is no number of jobs, or not possible here."""
    if jobs == "auto":
        return
    most = max(MOST, available_cores())
    if isinstance(jobs, bool) or not isinstance(jobs, int) or not 1 <= jobs <= most:
        raise UserError(f"study.jobs={jobs}: must be auto, or a whole number from 1 to {most}")
    if jobs > 1 and find_spec(JOBLIB) is None:
        raise UserError(f"study.jobs={jobs}: needs a package that is not installed: pip install hydra-joblib-launcher")


def set_launcher(config: DictConfig) -> None:
    """Makes joblib run a study's jobs side by side if study.jobs is more than one.

    Args:
        config: of the study, with `hydra`.

    Raises:
        UserError: for study.jobs beside a launcher that was typed, which stays and has its own number.
    """
    jobs = config.study.get("jobs", "auto")
    typed = [override for override in config.hydra.overrides.hydra if override.startswith("hydra/launcher=")]
    if typed and jobs != "auto":
        raise UserError(f"study.jobs={jobs}: has no effect with {typed[-1]}, whose own settings say how many")
    if typed:
        return
    if jobs == "auto":
        jobs = _one_per_core(config)
    if jobs == 1:
        return
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.launcher = {"_target_": f"{JOBLIB}.joblib_launcher.JoblibLauncher", "n_jobs": jobs}
        config.hydra.runtime.choices["hydra/launcher"] = "joblib"
        config.hydra.overrides.hydra.append("hydra/launcher=joblib")  # the jobs compose their config again
    print(f"  {jobs} jobs at a time (study.jobs)", flush=True)


def _one_per_core(config: DictConfig) -> int:
    """Returns how many jobs of one thread there is room for; 1 if a job takes a GPU, or several devices."""
    if find_spec(JOBLIB) is None or config.trainer.devices not in (1, "auto"):
        return 1
    if config.trainer.accelerator != "cpu" and _has_gpu():
        return 1
    cores = available_cores()
    if not hasattr(os, "sysconf"):  # on Windows
        return cores
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(cores, int(memory / 2 / MEMORY_OF_A_JOB)))


def _has_gpu() -> bool:
    import torch  # takes seconds, and the plan is printed before

    return torch.cuda.is_available() or torch.backends.mps.is_available()
