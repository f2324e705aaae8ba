"""The LightningDataModule: from a source's name to batches that are ready to train on."""

import hashlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.trainer.states import RunningStage
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader

from alexnet.data.decode import check_background, check_value_range
from alexnet.data.lazy import open_lazily
from alexnet.data.loader import (
    Batch,
    CropBoxes,
    EpochSampler,
    RandomCropDataset,
    Sample,
    ShardedBatchSampler,
    check_num_workers,
    class_balance,
    with_partners,
)
from alexnet.data.mixing import Mix
from alexnet.data.packed import DatasetInfo, PackedDataset
from alexnet.data.packing import pack_in_memory, pack_on_disk
from alexnet.data.prefetch import PrefetchLoader
from alexnet.data.sources import find_source, name_and_kind
from alexnet.data.sources.folder import Reading
from alexnet.data.sources.images import ImageSource
from alexnet.data.splits import CLASS, NUMBERS, strata, subset
from alexnet.data.transforms import Augment, Normalize, check_crops, check_statistic, multi_crop
from alexnet.errors import ArgumentError, UserError
from alexnet.validation import check_bool, check_choice, check_float, check_int, folder_path

log = logging.getLogger("alexnet")


class ImageDataModule(LightningDataModule):
    """Images of one source, packed as uint8, cropped, augmented and normalised on the device.

    Args:
        source: one of alexnet.data.sources.SOURCES, or images of one's own: sources.images.ImageSource.
        root: the folder of images (source=folder, imagenet), the folder or address of a stream (source=stream), where
            an ImageSource has its images, or where downloads go; None: cache_dir/downloads/SOURCE.
        num_classes: number of classes; None counts the class folders.
        channels: of a stored image, 1 (grey) or 3 (RGB), whatever the files are.
        size: side of a stored image in pixels (paper, section 2: 256).
        crop: side of the network's input in pixels.
        fraction: share of the training images of every class that is used; a smaller share lies within a larger one.
        test_fraction: share of the images of every class that is for testing, where the source has no test images of
            its own; None: 15%.
        batch_size: images per step, of all devices together.
        num_workers: processes that cut out crops, or decode; 0 does it in the training process. None: 0 where images
            are packed, which is fastest, and one per core, shared out among ranks, where they are not, or are a stream.
        on_device: the packed images live on the device, which then cuts their windows, the same ones. None:
            where that is a GPU of CUDA, and they take at most a quarter of its free memory.
        prefetch: the next batch is copied to a GPU of CUDA while this one is trained on.
        packed: decode every image once, into one array on disk; otherwise each time it is used.
        on_broken: error names every image that cannot be read; skip leaves them out and lists them.
        background: the colour behind the transparent pixels of image files. None ignores transparency.
        value_range: of image files with more than 8 bits a channel, the values that become black and white, (low, high)
            or high alone. None takes what the files say, and where they say nothing the largest training value.
        scaled_decoding: JPEGs of at least twice `size` are decoded at 1/2, 1/4 or 1/8 of their size, which is faster;
            values of the stored image differ by 1 of 255 on average.
        test_classes: the classes of a network that is tested on these images, all of which are then test images, and
            may lack some of the classes (source=folder).
        cache_dir: where packed images are kept. digits and fake are small, and packed in memory.
        normalize: channels: each less the training set's mean, and over its standard deviation. mean_image: the values
            from 0 to 255, less the mean of all training images at that place (paper, section 2).
        mean, std: of each channel, in [0, 1], in place of the training images' own (normalize=channels).
        sampler: shuffle: each training image once an epoch. balanced: as many are drawn, of every class as often.
        seed: of order and augmentation; with the epoch and a sample's number it says all that is drawn for it.
        augment: what is done to training images.
        mix: what mixes them and their labels, see mixing.py; None mixes nothing.
        crops: windows of each test image, 1, 5 or 10 (paper, section 4.1).

    Batches for the network: images (N, channels, crop, crop), channels-last, float32 or, where the trainer computes in
    it, bfloat16, and of several test crops a list of such; labels int64 (N,), or of mixed training images soft labels
    float32 (N, num_classes), whose sum is 1.

    Raises:
        ArgumentError: for a value out of range, or a folder that is not there. No image is read before `setup`.
    """

    resume_position = (0, 0)  # where training begins: an epoch, and how many of its batches are done already
    packed: PackedDataset | None = None
    cache_path: Path | None = None  # the packed array's folder
    device_images: Tensor | None = None  # the packed array, where it lives on the device

    def __init__(
        self,
        source: str | ImageSource,
        root: str | None = None,
        *,
        num_classes: int | None = None,
        channels: int = 3,
        size: int = 256,
        crop: int = 227,
        fraction: float = 1.0,
        batch_size: int = 128,
        num_workers: int | None = None,
        on_device: bool | None = None,
        prefetch: bool = True,
        packed: bool = True,
        on_broken: str = "error",
        cache_dir: str = "~/.cache/alexnet",
        normalize: str = "channels",
        seed: int = 0,
        augment: Augment | None = None,
        crops: int = 1,
        background: str | None = "white",
        value_range: float | Sequence[float] | None = None,
        test_classes: list[str] | None = None,
        mix: Mix | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        sampler: str = "shuffle",
        test_fraction: float | None = None,
        scaled_decoding: bool = False,
    ) -> None:
        super().__init__()
        self.source, self.kind = name_and_kind(source)
        self.size = check_int("size", size, 1, 4096)
        self.crop = check_int("crop", crop, 1)
        if crop > size:
            raise ArgumentError(f"crop={crop}: must be at most size={size}, the side of the stored images")
        self.fraction = check_float("fraction", fraction, 0, 1, exclusive_min=True)
        self.test_fraction = test_fraction
        self.batch_size = check_int("batch_size", batch_size, 1)
        self.use_cache = check_bool("packed", packed) and source != "stream"
        if on_broken == "skip" and not packed:
            raise ArgumentError("on_broken=skip: needs packed=true, which reads every image beforehand")
        self.on_device = None if on_device is None else check_bool("on_device", on_device)
        if on_device and not self.use_cache:
            raise ArgumentError("on_device=true: needs packed=true, and is not for streams")
        self.prefetch = check_bool("prefetch", prefetch)
        self.num_workers = check_num_workers(num_workers, packed=self.use_cache)
        self.on_broken = check_choice("on_broken", on_broken, ("error", "skip"))
        min_side = size if check_bool("scaled_decoding", scaled_decoding) else None
        self.reading = Reading(
            check_background("background", background), check_value_range("value_range", value_range), min_side
        )
        self.cache_dir = folder_path("cache_dir", cache_dir)
        self.subtract_mean_image = check_choice("normalize", normalize, ("channels", "mean_image")) == "mean_image"
        self.seed = check_int("seed", seed, 0, 2**32 - 1)
        self.augment = augment or Augment()
        self.mix = mix
        self.crops = check_crops("crops", crops)
        if channels not in (1, 3):
            raise ArgumentError(f"channels={channels}: must be 1 (grey) or 3 (RGB)")
        self.channels = channels
        self.mean, self.std = (check_statistic(k, v, channels) for k, v in (("mean", mean), ("std", std)))
        if self.subtract_mean_image and (mean, std) != (None, None):
            raise ArgumentError("mean, std: are of normalize=channels, and this is mean_image")
        self.sampler = check_choice("sampler", sampler, ("shuffle", "balanced"))
        if root is None and source in ("folder", "stream"):
            expected = "train/CLASS/*.jpg" if source == "folder" else "what prepare.py stream=FOLDER has written"
            raise ArgumentError(f"root is missing: pass data.root=FOLDER with {expected} in it")
        self.root = self.cache_dir / "downloads" / self.source if root is None else folder_path("root", root)
        split_by = [str(chosen) for chosen in (test_classes, self.test_fraction) if chosen is not None]
        self.origin = "\0".join([str(self.root.resolve()), *split_by])
        if source == "stream":
            known: int | None = self._find_stream(str(root))
        else:
            made = size, channels, num_classes
            self.open, known = find_source(source, self.root, made, self.reading, self.test_fraction, test_classes)
        if self.sampler == "balanced" and self.kind != CLASS:
            raise ArgumentError("sampler=balanced: is of classes")
        if num_classes not in (None, known):
            raise ArgumentError(f"num_classes={num_classes}: {self.source} has {known}; leave it empty")
        self.num_classes = check_int("num_classes", known, 1 + (self.kind == CLASS))

    def _find_stream(self, root: str) -> int:
        """Opens the description of the stream at `root`, and returns its number of classes."""
        from alexnet.data.streaming import find_stream  # optional

        if self.test_fraction is not None:
            raise ArgumentError(f"test_fraction={self.test_fraction}: a stream has been split; leave it empty")
        self.stream = find_stream(root, self.cache_dir)
        asked = self.size, self.size, self.channels
        if asked != self.stream.shape:
            side, _, kind = self.stream.shape
            raise ArgumentError(
                f"size={self.size}, channels={self.channels}: images of this stream have {side} and {kind}"
            )
        return len(self.stream.info.classes)

    def setup(self, stage: str | None = None) -> None:
        """Opens the images, once. Packs them first where that has not been done."""
        if self.packed:
            return
        if self.source in ("digits", "fake"):
            self.packed = _embedded(self.source, self.size, self.channels, self.num_classes, self.test_fraction)
        elif self.source == "stream":
            self.packed = self.stream.open()
        elif not self.use_cache:
            self.packed = open_lazily(self.open(), self.size, self.channels)
        else:
            root = hashlib.sha256(self.origin.encode(errors="surrogateescape")).hexdigest()[:12]
            self.cache_path = self.cache_dir / f"{self.source}-{self.size}x{self.channels}-{root}"
            self.packed = pack_on_disk(self.open(), self.cache_path, self.size, self.channels, self.on_broken)
        if len(self.info.classes) != self.num_classes:
            found = f"{self.source} has {self.num_classes} classes, and here are {len(self.info.classes)}"
            raise UserError(f"data.root={self.root}: {found}")
        self.splits = dict(self.packed.splits)
        if "train" in self.splits:
            train = self.splits["train"]
            self.splits["train"] = train.take(subset(strata(train.labels), self.fraction))
        covariance = torch.tensor(self.info.covariance)
        values, vectors = torch.linalg.eigh(covariance)
        self.principal = values.clamp(min=0), vectors  # rounding may have made a value less than none
        image: Tensor | None = None
        if self.subtract_mean_image:  # its centre, wherever an image's window lies: as convdata.py has it
            top = (self.size - self.crop) // 2
            centre = self.packed.mean_image[top : top + self.crop, top : top + self.crop]
            image = torch.from_numpy(centre).permute(2, 0, 1)
        std = covariance.diagonal().clamp(min=255**-2).sqrt()  # one flat colour has no spread
        if self.std is not None:
            std = torch.tensor(self.std, dtype=torch.float32)
        mean = torch.tensor(self.mean or self.info.mean, dtype=torch.float32)
        self.normalize = Normalize(mean, std, image)

    @property
    def info(self) -> DatasetInfo:
        assert self.packed, "setup() comes first"
        return self.packed.info

    @property
    def notes(self) -> list[str]:
        """What the user should know about the images: what was left out, and what looks wrong."""
        assert self.packed, "setup() comes first"
        return [*self.packed.notes, *self.info.notes]

    def has(self, split: str) -> bool:
        return split in self.splits and len(self.splits[split]) > 0

    def describe(self) -> dict[str, Any]:
        """Returns what a checkpoint needs for using its network on other images, as plain values."""
        description = {
            "source": self.source,
            "classes": self.info.classes,
            "kind": self.kind,
            "channels": self.channels,
            "size": self.size,
            "crop": self.crop,
            "mean": self.normalize.mean.tolist(),
            "std": self.normalize.std.tolist(),
            "fingerprint": self.info.fingerprint,
            "background": self.reading.background,
            "value_range": self.reading.value_range or self.info.value_range,
            "min_side": self.reading.min_side,
        }
        if self.kind == NUMBERS:
            numbers = self.splits["train"].labels
            spread = numbers.std(0)
            description |= {"label_mean": numbers.mean(0).tolist(), "label_std": np.where(spread, spread, 1).tolist()}
        if self.normalize.mean_image is not None:
            description["mean_image"] = self.normalize.mean_image
        return description

    def train_dataloader(self) -> DataLoader[Batch]:
        return self.loader("train", training=True, cut=not self._maybe_move_to_device())

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        if not self.has("val"):
            return []
        return self.loader("val", cut=not self._maybe_move_to_device())

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.loader("test", whole=self.crops > 1, cut=not self._maybe_move_to_device())

    def loader(self, split: str, *, training: bool = False, whole: bool = False, cut: bool = True) -> DataLoader[Batch]:
        """Returns a loader of the batches of a split, as RandomCropDataset makes them."""
        packed_split = self.splits[split]
        world_size, rank, overfit = 1, 0, False
        if self.trainer:
            world_size, rank = self.trainer.world_size, self.trainer.global_rank
            overfit = self.trainer.overfit_batches > 0  # type: ignore[attr-defined]
        weights = None
        if training and self.sampler == "balanced":
            weights = class_balance(packed_split.labels)
        sampler = EpochSampler(
            len(packed_split),
            self.seed,
            shuffle=training,
            chunks=packed_split.chunks,
            same_order=overfit,
            weights=weights,
        )
        start = self.resume_position if training else (0, 0)
        sampler.epoch = start[0]  # workers begin before Lightning sets it
        paired = training and self.mix is not None
        device = self._device()
        copied_to = device if self.prefetch and device.type == "cuda" else None
        dataset = RandomCropDataset(
            packed_split,
            self.crop,
            self.seed,
            random=training and self.augment.crop,
            whole=whole or (training and self.augment.rescale > 0),
            cut=cut,
            pinned=device.type == "cuda" and not self.num_workers,
            paired=paired,
        )
        return PrefetchLoader(
            dataset,
            device=copied_to,
            batch_sampler=ShardedBatchSampler(sampler, self.batch_size, rank, world_size, start, paired=paired),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=device.type == "cuda",
        )

    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def _maybe_move_to_device(self) -> bool:
        """Puts the packed images on the run's device the first time, if they live there. Returns whether they do."""
        assert self.packed
        stored, device = next(iter(self.packed.splits.values())).images, self._device()
        if self.trainer is None or not self.use_cache or self.on_device is False:
            return False
        if self.device_images is None:
            if self.on_device is None:
                if device.type != "cuda" or stored.nbytes > _free_memory(device) / 4:
                    return False
                log.info("the images live on %s, %.2f GB (data.on_device)", device, stored.nbytes / 1e9)
            self.device_images = torch.empty(stored.shape, dtype=torch.uint8, device=device)
            for start in range(0, len(stored), 4096):  # of a map on disk, which is not read into memory as a whole
                self.device_images[start : start + 4096] = torch.from_numpy(np.array(stored[start : start + 4096]))
        return True

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor | list[Tensor], Tensor]:
        images, labels = batch[0], batch[1]
        if isinstance(images, CropBoxes):
            assert self.device_images is not None
            images = images.crop(self.device_images)
        if self.trainer is None:
            return self.preprocess(images), labels
        dtype = torch.bfloat16 if self.trainer.precision == "bf16-mixed" else torch.float32
        stage = self.trainer.state.stage
        if stage == RunningStage.TRAINING:
            rand, partners = batch[2], batch[3:]
            inputs = self.preprocess(images, rand, dtype, self.trainer.current_epoch)
            return self.mix_with_partners(inputs, labels, rand, *partners)
        if self.crops > 1 and stage == RunningStage.TESTING:
            return [self.preprocess(view, dtype=dtype) for view in multi_crop(images, self.crop, self.crops)], labels
        return self.preprocess(images, dtype=dtype), labels

    def preprocess(
        self, images: Tensor, rand: Tensor | None = None, dtype: torch.dtype = torch.float32, epoch: int = 0
    ) -> Tensor:
        """Turns uint8 crops into the network's input, augmented where random numbers are given."""
        if rand is None:
            return self.normalize(images, dtype)
        self.principal = self.principal[0].to(images.device), self.principal[1].to(images.device)
        noise = self.augment.noise(rand, *self.principal, epoch)
        x = self.normalize(self.augment(images, rand, self.crop), dtype, noise, self.augment.divisor(epoch))
        return self.augment.erase_boxes(x, rand)

    def training_inputs(self, epoch: int, index: list[int]) -> Tensor:
        """Returns training images as the network gets them in an epoch, (N, C, crop, crop), as if in one batch."""
        samples: list[Sample] = [(epoch, i) for i in index]
        if self.mix:
            samples = with_partners(samples)
        dataset: Any = self.loader("train", training=True).dataset
        images, labels, rand, *partners = dataset.__getitems__(samples)
        return self.mix_with_partners(self.preprocess(images, rand, epoch=epoch), labels, rand, *partners)[0]

    def mix_with_partners(
        self, inputs: Tensor, labels: Tensor, rand: Tensor, partners: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mixes the images of a training batch.

        Args:
            inputs: augmented and normalised, (N, C, crop, crop).
            labels: classes (N,), or soft labels (N, num_classes).
            rand: random numbers (N, len(RANDOM_COLUMNS)).
            partners: the row of each one's partner, (n,), n <= N. Without it nothing is mixed.

        Returns:
            The inputs mixed, (n, C, crop, crop), and their soft labels (n, num_classes).
        """
        if self.mix is None or partners is None:
            return inputs, labels
        n, targets = len(partners), labels
        if labels.ndim == 1:
            targets = one_hot(labels, self.num_classes).float()
        return self.mix((inputs[:n], inputs[partners]), (targets[:n], targets[partners]), rand[:n])


def _free_memory(device: torch.device) -> int:
    """Returns a GPU's free memory in bytes. What torch keeps from earlier jobs counts as free."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


@lru_cache(maxsize=1)
def _embedded(source: str, size: int, channels: int, num_classes: int, test_fraction: float | None) -> PackedDataset:
    """Packs digits or fake, and caches the last of them, since the jobs of a sweep use the same."""
    opened, _ = find_source(source, Path(), (size, channels, num_classes), Reading(), test_fraction)
    packed = pack_in_memory(opened(), size, channels)
    packed.splits["train"].images.setflags(write=False)
    return packed
