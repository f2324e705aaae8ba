"""The sweeper of a study. It is a plugin of Hydra's, which must lie in the package hydra_plugins to be found."""

from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class StudySweeper(Sweeper):
    """Runs the jobs of a study: all at once, or batch by batch until the study is answered.

    Args:
        max_batch_size: of jobs that are given to the launcher at a time, where their number is fixed.
        params: what the study varies; read from the config.
    """

    config: DictConfig
    hydra_context: HydraContext
    launcher: Launcher

    def __init__(self, max_batch_size: int | None = None, params: dict[str, str] | None = None) -> None:
        self.max_batch_size = max_batch_size
        self.started = 0

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.hydra_context = hydra_context
        self.task_function = task_function

    def sweep(self, arguments: list[str]) -> None:
        from alexnet.sweeps.callbacks import jobs_of  # modules of this package load for every entry point
        from alexnet.sweeps.jobs import set_launcher
        from alexnet.sweeps.until import run_until_answered

        set_launcher(self.config)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context, task_function=self.task_function, config=self.config
        )
        OmegaConf.save(self.config, Path(self.config.hydra.sweep.dir, "multirun.yaml"))
        if self.config.study.until is not None:
            run_until_answered(self.config, self._launch)
            return
        jobs = jobs_of(self.config)
        size = self.max_batch_size or len(jobs)
        for first in range(0, len(jobs), size):
            self._launch(jobs[first : first + size])

    def _launch(self, jobs: list[list[str]]) -> Any:
        self.validate_batch_is_legal(jobs)
        first, self.started = self.started, self.started + len(jobs)
        return self.launcher.launch(jobs, initial_job_idx=first)
