"""Panel of the network as a graph."""

import io
import logging
import warnings
from contextlib import redirect_stdout
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from alexnet.training.loggers import tensorboard_writer

log = logging.getLogger("alexnet")


class Graph(Callback):
    """Traces the network by torch.jit.trace at the start; not with torch.compile.

    There is a warning in place of a graph if torch cannot trace it, as with a part of its own that is compiled.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        board, data = tensorboard_writer(trainer), trainer.datamodule  # type: ignore[attr-defined]
        network: Any = pl_module.network
        if not board or trainer.ckpt_path is not None or pl_module.compiled:
            return
        one = torch.zeros(1, data.channels, data.crop, data.crop, device=pl_module.device)
        modes = {layer: layer.training for layer in network.modules()}
        silent = redirect_stdout(io.StringIO())  # add_graph prints its errors too
        network.eval()
        try:
            with warnings.catch_warnings(), torch.no_grad(), torch.compiler.set_stance("force_eager"), silent:
                warnings.simplefilter("ignore")  # of what a trace fixes
                board.add_graph(network, one, use_strict_trace=False)
        except RuntimeError as error:
            log.warning("panels.graph: no graph, since torch cannot trace this network: %s", error)
        for layer, mode in modes.items():
            layer.training = mode
