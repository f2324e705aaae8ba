import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import Trainer

from alexnet.cores import available_cores
from alexnet.data import Augment, ImageDataModule
from alexnet.errors import ArgumentError, UserError
from tests.conftest import slow


def fake(**arguments: Any) -> ImageDataModule:
    data = ImageDataModule(
        **({"source": "fake", "num_classes": 4, "size": 20, "crop": 16, "batch_size": 100} | arguments)
    )
    data.setup()
    return data


def stored(data: ImageDataModule, split: str) -> np.ndarray:
    images = data.splits[split]
    return images.images[images.rows]


def test_statistics_and_components_are_those_of_the_training_images() -> None:
    data = fake()
    pixels = stored(data, "train").reshape(-1, 3).T.astype(float) / 255
    assert data.normalize.mean.tolist() == pytest.approx(pixels.mean(1), abs=1e-6)
    assert data.normalize.std.tolist() == pytest.approx(pixels.std(1), abs=1e-6)
    values, vectors = data.principal
    covariance = vectors @ torch.diag(values) @ vectors.T
    assert np.allclose(covariance, np.cov(pixels, bias=True), atol=1e-6)


def test_ready_batches_are_normalised() -> None:
    data = fake()
    images, labels, _ = next(iter(data.test_dataloader()))
    x = data.preprocess(images)
    expected = (images.double() / 255 - data.normalize.mean[:, None, None]) / data.normalize.std[:, None, None]
    torch.testing.assert_close(x.double(), expected, atol=1e-5, rtol=0)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert labels.dtype == torch.int64


def test_statistics_that_are_given() -> None:
    data = fake(mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.1])
    images, *_ = next(iter(data.test_dataloader()))
    mean, std = torch.tensor([[0.5, 0.4, 0.3], [0.2, 0.2, 0.1]])[:, :, None, None]
    expected = (images / 255 - mean) / std
    torch.testing.assert_close(data.preprocess(images), expected, atol=1e-5, rtol=0)
    assert data.describe()["std"] == pytest.approx([0.2, 0.2, 0.1])
    for arguments, message in (
        ({"mean": [0.5]}, r"mean=\[0.5\]: must be a number for each of 3 channels"),
        ({"std": 0.5}, "std=0.5: must be a number for each"),
        ({"std": [0.5, 0, 0.5]}, "std=0: must be a number"),
        ({"mean": [0.5] * 3, "normalize": "mean_image"}, "mean, std: are of normalize=channels"),
        ({"sampler": "weighted"}, "sampler=weighted: must be one of shuffle, balanced"),
    ):
        with pytest.raises(ArgumentError, match=message):
            fake(**arguments)


@pytest.mark.parametrize("divide", [False, True])
def test_the_mean_image_is_subtracted_as_in_2012(divide: bool) -> None:
    """convdata.py: the window, mirrored or not, less the centre of the mean image; the noise; over 1.1."""
    augment = Augment(crop=True, flip=0.5, pca=0.1, pca_sqrt=True, pca_divide=divide, pca_epochs=2)
    data = fake(normalize="mean_image", augment=augment)
    mean = torch.from_numpy(stored(data, "train").astype(np.float64).mean(0)[2:18, 2:18]).permute(2, 0, 1)
    images, _, _ = next(iter(data.test_dataloader()))
    torch.testing.assert_close(data.preprocess(images).double(), images - mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(data.normalize.denormalize(data.preprocess(images)), images / 255, atol=1e-5, rtol=0)

    images, _, rand = next(iter(data.train_dataloader()))
    mirrored = augment(images, rand, 16)
    noise = 255 * augment.noise(rand, *data.principal)[:, :, None, None]
    assert noise.abs().max() > 1
    expected = (mirrored - mean + noise) / (1.1 if divide else 1)
    torch.testing.assert_close(data.preprocess(images, rand, epoch=1).double(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(data.preprocess(images, rand, epoch=2).double(), mirrored - mean, atol=1e-4, rtol=0)
    assert data.describe()["mean_image"].shape == (3, 16, 16), "a checkpoint has it"


def test_the_last_batch_is_smaller_and_nothing_is_lost() -> None:
    data = fake(batch_size=100, augment=Augment(rescale=0.5))
    sizes = [len(labels) for _, labels, _ in data.train_dataloader()]
    assert sizes == [100, 100, 100, 100, 100, 12]
    images, _, rand = next(iter(data.train_dataloader()))
    assert images.shape[-1] == 20, "rescaling cuts its windows out of the whole stored image"
    assert data.preprocess(images, rand).shape == (100, 3, 16, 16)


def test_half_precision_batches_are_the_rounded_ones() -> None:
    data = fake(augment=Augment(flip=0.5, pca=0.1))
    images, _, rand = next(iter(data.train_dataloader()))
    assert torch.equal(data.preprocess(images, rand, torch.bfloat16), data.preprocess(images, rand).bfloat16())


def test_a_fraction_is_stratified_and_nested() -> None:
    whole = fake().splits["train"]
    smaller: set[int] = set()
    for fraction in (0.01, 0.1, 0.25, 0.6, 1.0):
        data = fake(fraction=fraction)
        train = data.splits["train"]
        chosen = set(train.rows.tolist())
        assert smaller <= chosen
        smaller = chosen
        assert np.bincount(train.labels).tolist() == [max(1, round(fraction * n)) for n in np.bincount(whole.labels)]
        assert len(data.splits["val"]) == 128, "the images that judge stay the same"
        assert data.normalize.mean.tolist() == fake().normalize.mean.tolist()


def test_flat_colours_do_not_divide_by_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (20, 20), (7, 7, 7)).save(tmp_path / "set" / name / f"{i}.png")
    data = ImageDataModule("folder", str(tmp_path / "set"), size=16, crop=16, cache_dir=str(tmp_path / "cache"))
    data.setup()
    images, _, rand = next(iter(data.train_dataloader()))
    assert data.preprocess(images, rand).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "cifar"}, "source=cifar: must be one of"),
        ({"crop": 21}, "crop=21: must be at most size=20"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"num_classes": 1}, "num_classes=1"),
        ({"num_classes": None}, "num_classes=None"),
        ({"source": "digits"}, "num_classes=4: digits has 10"),
        ({"channels": 2}, "channels=2"),
        ({"fraction": 0}, "fraction=0"),
        ({"on_broken": "ignore"}, "on_broken=ignore"),
        ({"cache_dir": ""}, "cache_dir="),
        ({"packed": False, "on_broken": "skip"}, "on_broken=skip: needs packed=true"),
        ({"source": "folder"}, "root is missing"),
        ({"source": "folder", "root": "/no/such"}, "root=/no/such: no such folder"),
    ],
)
def test_values_that_do_not_suit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fake(**arguments)


def test_unpacked_images_are_the_packed_ones(image_folder: Path, tmp_path: Path) -> None:
    batches = []
    for packed in (True, False):
        data = ImageDataModule(
            "folder", str(image_folder), size=40, crop=32, num_workers=0, packed=packed,
            cache_dir=str(tmp_path / "cache"),
            augment=Augment(flip=0.5),
        )  # fmt: skip
        data.setup()
        batches.append((next(iter(data.train_dataloader())), next(iter(data.val_dataloader())), data.normalize.mean))
    (train, val, mean), (other_train, other_val, other_mean) = batches
    for a, b in zip((*train, *val, mean), (*other_train, *other_val, other_mean), strict=True):
        assert torch.equal(a, b)
    assert ImageDataModule("folder", str(image_folder), packed=False).num_workers == available_cores()
    (image_folder / "training" / "n0" / "broken.jpg").write_text("")
    for workers in (0, 2):  # whose trace is nothing to the user
        data = ImageDataModule("folder", str(image_folder), size=40, crop=32, packed=False, num_workers=workers)
        data.setup()
        with pytest.raises(UserError) as caught:
            list(data.train_dataloader())
        said = r"data: cannot read n0/broken.jpg: .*\. data.packed=true finds every such image beforehand"
        assert re.fullmatch(said, str(caught.value))


@slow
def test_what_takes_more_than_a_quarter_of_a_gpu_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    data = fake()
    assert data.packed
    size = data.packed.splits["train"].images.nbytes
    data.trainer = Trainer(accelerator="cpu", logger=False)
    assert not data._maybe_move_to_device(), "a CPU reads the map"
    monkeypatch.setattr(data, "_device", lambda: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * size - 1, 10**12))
    assert not data._maybe_move_to_device()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * size, 10**12))
    monkeypatch.setattr(torch, "empty", lambda shape, dtype, device: torch.zeros(shape, dtype=dtype))
    assert data._maybe_move_to_device()
    assert data.device_images is not None
    assert np.array_equal(data.device_images, data.packed.splits["train"].images)


def test_a_folder_counts_its_classes(image_folder: Path) -> None:
    assert ImageDataModule("folder", str(image_folder)).num_classes == 2
    with pytest.raises(ValueError, match=r"num_classes=3: folder has 2"):
        ImageDataModule("folder", str(image_folder), num_classes=3)
