"""A research template around AlexNet. Importing it imports nothing: `alexnet.models` and `alexnet.data` stand alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def load(path: str | Path, trusted: Sequence[str] = ()) -> "nn.Module":
    """Loads the trained network of a run directory, a checkpoint or an exported file: see alexnet.checkpoint.load."""
    from alexnet.checkpoint import load as load_checkpoint

    return load_checkpoint(path, trusted)
