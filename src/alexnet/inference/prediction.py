"""The prediction for one image."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


@dataclass
class Prediction:
    """What the network predicts for one image.

    Attributes:
        file: the image.
        true: its class, where the image lies in a folder that is named after one, by itself or by a labels file.
        top: classes and probabilities, the likeliest first.
        image: uint8 (crop, crop, C), as the network sees it, where it is drawn.
        nearest: see neighbours.nearest.
    """

    file: Path
    true: str | None
    top: list[tuple[str, float]]
    image: NDArray[Any] | None = None
    nearest: list[dict[str, Any]] = field(default_factory=list)
