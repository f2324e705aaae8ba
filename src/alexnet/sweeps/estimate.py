"""Logs how long a study takes after its first epoch, since its next line comes only when a whole run has ended."""

import time
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from alexnet.run_dir import read_run_json
from alexnet.study.formatting import duration
from alexnet.sweeps.progress import StudyState


class FirstEstimate(Callback):
    """Logs how long the study takes, after the first epoch of its first run."""

    def __init__(self) -> None:
        self.said = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began, self.first = time.monotonic(), trainer.current_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = trainer.max_epochs or -1
        if self.said or not trainer.is_global_zero or trainer.current_epoch + 1 >= epochs:
            return
        self.said = True
        run_dir = Path(trainer.default_root_dir)
        state = StudyState.read(run_dir.parent)
        if state.ended or state.to_do[:1] != [read_run_json(run_dir).get("config_digest")]:
            return
        seconds = time.monotonic() - self.began
        done = seconds * self.first  # jobs that run beside a resumed one have been resumed too
        left = max(0.0, state.seconds_left(seconds * epochs) - done)
        epoch = f"epoch {trainer.current_epoch + 1} of {epochs}"
        print(f"[0/{state.jobs}] {run_dir.name}: {epoch}; about {duration(left)} left", flush=True)
