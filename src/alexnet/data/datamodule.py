"""The LightningDataModule: from a source's name to batches that are ready to train on."""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.trainer.states import RunningStage
from torch import Tensor
from torch.utils.data import DataLoader

from alexnet.checks import integer, one_of
from alexnet.data import sources
from alexnet.data.augment import Augment
from alexnet.data.loader import Batch, Crops, EpochSampler
from alexnet.data.sources import Pictures, Splits

log = logging.getLogger(__name__)


class PictureData(LightningDataModule):
    """Pictures of one source, stored as uint8, cropped, augmented and normalised on the device.

    Args:
        source: digits, folder or fake.
        root: the folder of pictures, for source=folder.
        num_classes: number of classes; None counts the class folders.
        channels: of a stored picture, 1 or 3.
        size: side of a stored picture in pixels (paper, section 2: 256).
        crop: side of the network's input in pixels.
        batch_size: pictures per step, of all devices together.
        workers: processes that cut out crops; 0 does it in the training process.
        seed: of order and augmentation; with the epoch and a sample's number it says all that is drawn for it.
        augment: what is done to training pictures.

    Batches for the network: images float32 (N, channels, crop, crop), each channel less the training set's mean and
    over its standard deviation; labels int64 (N,).

    Raises:
        ValueError: for a value out of range, or a folder that is not there. No picture is read before `setup`.
    """

    def __init__(
        self,
        source: str,
        root: str | None = None,
        num_classes: int | None = None,
        channels: int = 3,
        size: int = 256,
        crop: int = 227,
        batch_size: int = 128,
        workers: int = 0,
        seed: int = 0,
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        self.source = one_of("source", source, ("digits", "folder", "fake"))
        self.size = integer("size", size, 1, 4096)
        self.crop = integer("crop", crop, 1)
        if crop > size:
            raise ValueError(f"crop={crop}: must be at most size={size}, the side of the stored pictures")
        self.batch_size = integer("batch_size", batch_size, 1)
        self.workers = integer("workers", workers, 0, 8 * (os.cpu_count() or 1))
        self.seed = integer("seed", seed, 0, 2**32 - 1)
        self.augment = augment or Augment()
        self.channels = integer("channels", channels, 1, 3)
        if source == "digits" and (channels, num_classes) != (1, 10):
            raise ValueError(f"channels={channels}: the digits have 1 channel, and num_classes=10")
        if source == "folder":
            self.root = Path(_given("root", root)).expanduser()
            if channels != 3:
                raise ValueError(f"channels={channels}: pictures of a folder are read as RGB, channels=3")
            found = len(sources.find_classes(sources.find_folders(self.root)["train"]))
            if num_classes not in (None, found):
                raise ValueError(f"num_classes={num_classes}: {self.root} has {found} class folders; leave it empty")
            num_classes = found
        self.num_classes = integer("num_classes", num_classes, 2)
        self.splits: Splits = {}

    def setup(self, stage: str | None = None) -> None:
        """Reads the pictures, once, and measures what normalisation and colour noise need."""
        if self.splits:
            return
        if self.source == "digits":
            self.splits, self.classes = sources.digits(self.size)
        elif self.source == "fake":
            self.splits, self.classes = sources.fake(self.size, self.channels, self.num_classes)
        else:
            self.splits, self.classes = sources.folder(self.root, self.size)
        mean, covariance = _moments(self.splits["train"].images)
        self.mean, self.std = mean, covariance.diagonal().clamp(min=255**-2).sqrt()  # one flat colour has no spread
        eigenvalues, self.eigenvectors = torch.linalg.eigh(covariance)
        self.eigenvalues = eigenvalues.clamp(min=0)  # which rounding may have made less than none

    def fingerprint(self) -> str:
        """SHA-256 of every stored picture and label, in the order of the splits."""
        digest = hashlib.sha256()
        for name in sorted(self.splits):
            split = self.splits[name]
            digest.update(f"{name} {split.images.shape}".encode())
            digest.update(np.ascontiguousarray(split.images).data)
            digest.update(split.labels.data)
        return digest.hexdigest()

    def has(self, split: str) -> bool:
        return split in self.splits and len(self.splits[split]) > 0

    def describe(self) -> dict[str, Any]:
        """What a checkpoint needs to use its network on other pictures, as plain values."""
        return {
            "source": self.source,
            "classes": self.classes,
            "channels": self.channels,
            "size": self.size,
            "crop": self.crop,
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
        }

    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader("train", training=True)

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        return self._loader("val") if self.has("val") else []

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader("test")

    def _loader(self, split: str, training: bool = False) -> DataLoader[Batch]:
        pictures: Pictures = self.splits[split]
        world_size, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        if self.batch_size % world_size:
            raise ValueError(f"batch_size={self.batch_size}: {world_size} devices must share it evenly")
        random, whole = training and self.augment.crop, training and self.augment.rescale > 0
        return DataLoader(
            Crops(pictures, self.crop, self.seed, random, whole),
            batch_size=self.batch_size // world_size,
            sampler=EpochSampler(len(pictures), self.seed, training, rank, world_size),
            collate_fn=_as_it_is,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        images, labels, draws = batch
        training = self.trainer is not None and self.trainer.state.stage == RunningStage.TRAINING
        return self.ready(images, draws if training else None), labels

    def ready(self, images: Tensor, draws: Tensor | None = None) -> Tensor:
        """uint8 crops to the network's input, augmented where there are random numbers for it; channels-last."""
        if self.mean.device != images.device:
            for name in ("mean", "std", "eigenvalues", "eigenvectors"):
                setattr(self, name, getattr(self, name).to(images.device))
        if draws is None:
            x = images.float() / 255
        else:
            x = self.augment(images, draws, self.crop, self.eigenvalues, self.eigenvectors)
        x = (x - self.mean[:, None, None]) / self.std[:, None, None]
        return x.contiguous(memory_format=torch.channels_last)


def _as_it_is(batch: Any) -> Any:
    return batch


def _given(name: str, value: str | None) -> str:
    if not value:
        raise ValueError(f"{name} is missing: pass data.{name}=FOLDER with train/CLASS/*.jpg in it")
    return value


def _moments(images: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean (C,) and covariance (C, C) of the channels of uint8 images (N, C, H, W), scaled to [0, 1], in float64."""
    c = images.shape[1]
    n, total, outer = 0, torch.zeros(c, dtype=torch.float64), torch.zeros(c, c, dtype=torch.float64)
    for start in range(0, len(images), 64):
        x = torch.from_numpy(images[start : start + 64]).movedim(1, 0).flatten(1).double() / 255
        n, total, outer = n + x.shape[1], total + x.sum(1), outer + x @ x.T
    mean = total / n
    return mean.float(), (outer / n - torch.outer(mean, mean)).float()
