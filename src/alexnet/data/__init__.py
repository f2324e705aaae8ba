"""Pictures: sources, crops, augmentation. Usable without the rest of the template."""

from alexnet.data.augment import Augment
from alexnet.data.datamodule import PictureData

__all__ = ["Augment", "PictureData"]
