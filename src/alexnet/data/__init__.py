"""Pictures: sources, crops, augmentation. Usable without the rest of the template."""

from alexnet.data.datamodule import PictureData
from alexnet.data.transforms import Augment

__all__ = ["Augment", "PictureData"]
