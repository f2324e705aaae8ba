"""Panel of the network as a graph."""

import warnings
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from alexnet.training.loggers import tensorboard_writer


class Graph(Callback):
    """Traces the network by torch.jit.trace at the start; not with torch.compile."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        board, data = tensorboard_writer(trainer), trainer.datamodule  # type: ignore[attr-defined]
        network: Any = pl_module.network
        if not board or trainer.ckpt_path is not None or pl_module.compiled:
            return
        one = torch.zeros(1, data.channels, data.crop, data.crop, device=pl_module.device)
        modes = {layer: layer.training for layer in network.modules()}
        with warnings.catch_warnings(), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            warnings.simplefilter("ignore")  # of what a trace fixes
            network.eval()
            board.add_graph(network, one, use_strict_trace=False)
        for layer, mode in modes.items():
            layer.training = mode
