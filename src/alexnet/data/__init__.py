"""Images: sources, crops, augmentation. Works without the rest of the template."""

from alexnet.data.datamodule import ImageDataModule
from alexnet.data.preview import augmented
from alexnet.data.transforms import Augment

__all__ = ["Augment", "ImageDataModule", "augmented"]
