"""Logs how much memory a run takes."""

import resource
import sys

import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class Memory(Callback):
    """Logs the peak memory so far in GB after every epoch: the GPU's, or on the CPU the process's."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if pl_module.device.type == "cuda":
            used = torch.cuda.max_memory_allocated(pl_module.device)
        else:
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        pl_module.log("memory_gb", used / 1e9)
