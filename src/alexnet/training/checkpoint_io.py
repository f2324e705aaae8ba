"""Writes checkpoints whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.plugins.io import TorchCheckpointIO

from alexnet.io import atomic_write


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a temporary file, then renames it: a kill or a full disk leaves the checkpoint that was there before.

    Lightning's own writes into the folder for temporary files, and copies from there to another file system.
    """

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """Loads onto the CPU without running code from the file. The directory may have been moved."""
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        here = str(Path(path).resolve().parent)
        for state in checkpoint.get("callbacks", {}).values():
            if moved_from := state.get("dirpath"):
                state.update(apply_to_collection(state, str, lambda text: text.replace(moved_from, here)))
                state["best_k_models"] = {k.replace(moved_from, here): v for k, v in state["best_k_models"].items()}
        return checkpoint

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        with atomic_write(path) as beside:
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)  # so that the new name outlives a crash of the machine
        os.close(folder)
