"""Imported by the process that tests fork: the digits as most of their runs want them. No thread is left."""

from alexnet.data import ImageDataModule

ImageDataModule("digits", channels=1, num_classes=10).setup()
