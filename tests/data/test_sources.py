import os
import resource
import shutil
import urllib.error
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from alexnet.data import ImageDataModule
from alexnet.data.decode import decode, resize_and_center_crop
from alexnet.data.packing import pack_in_memory
from alexnet.data.sources.folder import Reading, list_files, open_folder
from alexnet.data.sources.layout import find_classes, find_splits
from alexnet.data.sources.synthetic import digits, fake
from alexnet.data.sources.torchvision import DOWNLOADS, downloaded
from alexnet.data.splits import Source, stratified_indices
from alexnet.errors import ArgumentError, UserError


@pytest.mark.parametrize("seed", range(8))
def test_stratified_split(seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, draw.integers(2, 12), draw.integers(20, 800))
    parts = stratified_indices(labels, {"train": 0.7, "val": 0.2, "test": 0.1})
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(labels)))
    for label, n in Counter(labels.tolist()).items():
        for name, share in (("val", 0.2), ("test", 0.1)):
            assert (labels[parts[name]] == label).sum() == round(share * n)
    again = stratified_indices(labels, {"train": 0.7, "val": 0.2, "test": 0.1})
    assert all(np.array_equal(parts[name], again[name]) for name in parts)


def packed(source: Source, size: int, channels: int = 3) -> dict[str, np.ndarray]:
    """Every split as (N, size, size, channels)."""
    return {name: p.images[p.rows] for name, p in pack_in_memory(source, size, channels).splits.items()}


def test_digits_are_all_there_once() -> None:
    source = digits()
    assert {name: len(s.labels) for name, s in source.splits.items()} == {"train": 1259, "val": 269, "test": 269}
    raw = load_digits()
    stored = np.concatenate(list(packed(source, 8, 1).values()))[..., 0]
    labels = np.concatenate([s.labels for s in source.splits.values()])
    key = lambda images, labels: sorted((int(c), x.round().astype(int).tobytes()) for x, c in zip(images, labels))  # noqa: B905, E731
    assert key(stored.astype(float), labels) == key(raw.images * (255 / 16), raw.target)
    for split in source.splits.values():
        assert min(Counter(split.labels.tolist()).values()) > 0.08 * len(split.labels)


def counts(data: ImageDataModule) -> dict[str, int]:
    data.setup()
    return {name: len(split) for name, split in data.splits.items()}


def test_a_share_to_test_on(image_folder: Path, tmp_path: Path) -> None:
    """Where the source has no test images of its own; the packed images of each share are kept."""
    assert counts(ImageDataModule("digits", size=8, crop=8, channels=1, test_fraction=0.5)) == {
        "train": 630, "val": 269, "test": 898,
    }  # fmt: skip
    found, fingerprints = [], set()
    cache = str(tmp_path)
    for share in (None, 0.5, None):
        data = ImageDataModule("folder", f"{image_folder}", size=8, crop=8, cache_dir=cache, test_fraction=share)
        found.append(counts(data)["test"])
        fingerprints.add(data.info.fingerprint)
    assert found == [2, 8, 2]
    assert len(fingerprints) == 2
    assert sum(path.is_dir() for path in tmp_path.glob("folder-*")) == 2


def test_scaled_decoding_is_another_data_set(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("train", "b"), ("test", "a")):
        for i in range(4):
            pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg")
    made = {}
    for scaled in (False, True, None):
        given = {} if scaled is None else {"scaled_decoding": scaled}
        cache = str(tmp_path / f"cache{scaled}")
        data = ImageDataModule("folder", str(tmp_path / "set"), size=32, crop=32, cache_dir=cache, **given)
        data.setup()
        made[scaled] = data.describe()
    assert made[None]["fingerprint"] == made[False]["fingerprint"] != made[True]["fingerprint"]
    assert (made[False]["min_side"], made[True]["min_side"]) == (None, 32)
    assert made[True]["mean"] == pytest.approx(made[False]["mean"], abs=0.01)
    assert str(Reading()) == "Reading(background='white', value_range=None)", "what earlier data sets were packed with"


@pytest.mark.parametrize("share", [0, 0.9, float("nan"), "half"])
def test_a_share_to_test_on_is_checked(share: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^test_fraction="):
        ImageDataModule("digits", size=8, crop=8, test_fraction=share)


def test_no_share_of_what_has_test_images(image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"^test_fraction=0.5: fake"):
        ImageDataModule("fake", num_classes=4, size=8, crop=8, test_fraction=0.5)
    shutil.copytree(image_folder / "training", image_folder / "testing")
    data = ImageDataModule("folder", f"{image_folder}", size=8, crop=8, cache_dir=f"{tmp_path}", test_fraction=0.5)
    with pytest.raises(UserError, match=r"^data.test_fraction=0.5"):
        data.setup()


def test_fake_images_can_be_told_apart() -> None:
    source = fake(32, 3, 4)
    images = packed(source, 32)
    train, labels = images["train"].astype(float), source.splits["train"].labels
    means = np.stack([train[labels == c].mean(0) for c in range(4)])
    guess = ((images["test"][:, None] - means) ** 2).mean((2, 3, 4)).argmin(1)
    assert (guess == source.splits["test"].labels).mean() > 0.9


def test_folder_with_the_slides_names(image_folder: Path) -> None:
    source = open_folder(image_folder)
    assert source.classes == ["n0", "n1"]
    assert sum(len(source.splits[s].labels) for s in ("train", "test")) == 16, "test/ is taken from training/"
    assert len(source.splits["test"].labels) == 2
    assert source.splits["val"].labels.tolist() == [0, 0, 0, 1, 1, 1]
    blue = packed(source, 32)["train"][source.splits["train"].labels == 0].mean((0, 1, 2))
    assert blue == pytest.approx([40, 40, 200], abs=15)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "LA", "1", "RGB"])
@pytest.mark.parametrize("kind", ["jpg", "png", "bmp", "webp", "tif"])
def test_every_kind_of_image_is_read_as_rgb(mode: str, kind: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (50, 40), (255, 255, 255)).convert(mode)
    try:
        path = save(tmp_path / f"x.{kind}", image)
    except (OSError, ValueError, KeyError):
        pytest.skip(f"PIL writes no {mode} {kind}")
    decoded = decode(path)
    assert decoded.shape == (3, 40, 50)
    assert decoded.dtype == torch.uint8
    assert decoded.float().min() > 240


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_the_camera_that_was_turned(kind: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 60))
    image.paste((255, 0, 0), (0, 0, 40, 30))  # red above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: what is above comes to the right
    decoded = decode(save(tmp_path / f"x.{kind}", image, exif=exif))
    assert decoded.shape == (3, 40, 60)
    assert decoded[0, :, 50].min() > 200
    assert decoded[0, :, 10].max() < 50


def test_jpegs_are_what_pil_makes_of_them(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    smooth = Image.fromarray(draw.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize(
        (90, 60), Image.Resampling.BICUBIC
    )
    path = save(tmp_path / "x.jpg", smooth, quality=95)
    assert np.abs(decode(path).permute(1, 2, 0).numpy().astype(int) - np.asarray(Image.open(path))).max() <= 3


@pytest.mark.parametrize("shape", [(120, 40), (40, 120), (1, 1), (3, 1000), (20, 20)])
def test_shorter_side_then_centre(shape: tuple[int, int]) -> None:
    """Against PIL: scaled so that the shorter side is 20, the middle kept."""
    gradient = np.add.outer(np.linspace(0, 100, shape[0]), np.linspace(0, 150, shape[1])).astype(np.uint8)
    fitted = resize_and_center_crop(torch.from_numpy(np.stack([gradient] * 3)), 20, 3)
    scale = 20 / min(shape)
    whole = Image.fromarray(gradient).resize((int(shape[1] * scale), int(shape[0] * scale)), Image.Resampling.BILINEAR)
    left, top = round((whole.width - 20) / 2), round((whole.height - 20) / 2)
    expected = np.asarray(whole.crop((left, top, left + 20, top + 20)))
    assert fitted.shape == (20, 20, 3)
    assert np.abs(fitted[..., 0].astype(int) - expected).max() <= 3


def test_grey_from_colour_and_colour_from_grey() -> None:
    red = torch.zeros(3, 4, 4, dtype=torch.uint8)
    red[0] = 200
    assert resize_and_center_crop(red, 4, 1).max() == int(0.2989 * 200)
    assert resize_and_center_crop(red[:1], 4, 3).tolist() == [[[200, 200, 200]] * 4] * 4
    grey = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert np.array_equal(resize_and_center_crop(grey.expand(3, -1, -1), 16, 1)[..., 0], grey[0]), (
        "of a file that is read as colour"
    )


def test_two_classes_and_five_images(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path / f"c{i % 2}" / f"{i}.jpg", Image.new("RGB", (30, 30), (i, 0, 0)))
    source = open_folder(tmp_path)
    assert source.classes == ["c0", "c1"]
    assert sum(len(s.labels) for s in source.splits.values()) == 5
    assert len(source.splits["train"].labels)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "1.png", Image.new("RGB", (9, 9)))
    save(tmp_path / "set" / "a" / "deep er" / "\u733f.png", Image.new("RGB", (9, 9)))
    (tmp_path / "set" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "a" / "round").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "nowhere").symlink_to(tmp_path / "gone")
    source = list_files({"train": tmp_path / "set"}, find_classes(tmp_path / "set"))
    assert sorted(source.splits["train"].names) == ["a/deep er/\u733f.png", "b/1.png"]


def test_the_state_changes_with_the_files_and_only_then(image_folder: Path) -> None:
    first = open_folder(image_folder).state
    assert open_folder(image_folder).state == first
    path = image_folder / "training" / "n0" / "0.jpg"
    os.utime(path, ns=(1, 1))
    second = open_folder(image_folder).state
    path.rename(path.with_name("renamed.jpg"))
    third = open_folder(image_folder).state
    (image_folder / "training" / "n2").mkdir()
    shutil.copy(path.with_name("renamed.jpg"), image_folder / "training" / "n2")
    fourth = open_folder(image_folder).state
    (image_folder / "test").mkdir()
    assert len({first, second, third, fourth, open_folder(image_folder).state}) == 5


@pytest.mark.parametrize("name", DOWNLOADS)
def test_without_a_network_the_error_says_what_to_fetch(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(UserError, match=f"data={name} cannot be fetched: .*\nPut .* into {tmp_path}"):
        downloaded(name, tmp_path)


def test_imagenet_as_a_tree_of_folders(tmp_path: Path) -> None:
    for split, n in (("train", 60), ("val", 4)):
        for name in ("n01440764", "n01443537"):
            for i in range(n):
                save(tmp_path / split / name / f"{i}.JPEG", Image.new("RGB", (30, 30), (i, 0, 0)))
    with pytest.raises(UserError, match="imagenet has 1000 classes, and here are 2"):
        ImageDataModule("imagenet", str(tmp_path), size=16, crop=16, cache_dir=str(tmp_path / "cache")).setup()
    source = downloaded("imagenet", tmp_path)
    assert {name: len(s.labels) for name, s in source.splits.items()} == {"train": 118, "val": 2, "test": 8}
    assert not source.notes
    shutil.rmtree(tmp_path / "val" / "n01443537")
    (note,) = downloaded("imagenet", tmp_path).notes
    assert (note.partition(":")[0], note.rpartition(" ")[2]) == ("test", "n01443537")


@pytest.mark.parametrize("source", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_a_tree_of_folders_stands_for_the_official_archive(source: str, tmp_path: Path) -> None:
    grey, names = "mnist" in source, [f"class {i:02}" for i in range(DOWNLOADS[source])]
    for split, n in (("train", 10), ("test", 2)):
        for label, name in enumerate(names):
            for i in range(n):
                image = Image.new("RGB", (32, 32), (2 * label,) * 3)
                save(tmp_path / "tree" / split / name / f"{i}.png", image)
    shape: Any = {"size": 32, "crop": 32, "channels": 1 if grey else 3, "cache_dir": str(tmp_path / "cache")}
    data = ImageDataModule(source, str(tmp_path / "tree"), **shape)
    data.setup()
    assert data.info.classes == names
    assert {split: len(images) for split, images in data.splits.items()} == {
        "train": 9 * len(names), "val": len(names), "test": 2 * len(names)
    }  # fmt: skip
    train = data.splits["train"]
    assert np.array_equal(train.images[train.rows, 3, 4, 0], 2 * train.labels)
    shutil.rmtree(tmp_path / "tree" / "test")
    with pytest.raises(UserError, match=r"has training images in folders, but no test/CLASS/\*.jpg"):
        downloaded(source, tmp_path / "tree")


@pytest.mark.skipif("CIFAR10_FOLDERS" not in os.environ, reason="CIFAR10_FOLDERS names no folder with train/ and test/")
def test_all_of_cifar10_as_folders(tmp_path: Path) -> None:
    for source, val in (("cifar10", 5_000), ("folder", 7_500)):
        shape: Any = {"size": 32, "crop": 24, "cache_dir": str(tmp_path)}
        data = ImageDataModule(source, os.environ["CIFAR10_FOLDERS"], **shape)
        data.setup()
        assert {split: len(images) for split, images in data.splits.items()} == {
            "train": 50_000 - val, "val": val, "test": 10_000
        }  # fmt: skip
        published = [0.4914, 0.4822, 0.4465]
        assert data.normalize.mean.tolist() == pytest.approx(published, abs=0.002)
        assert data.info.classes == [
            "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"
        ]  # fmt: skip


def test_folders_that_do_not_suit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        find_splits(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no class folders"):
        find_splits(tmp_path)
    (tmp_path / "val" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match="no train or training"):
        open_folder(tmp_path)
    (tmp_path / "train" / "b").mkdir(parents=True)
    with pytest.raises(UserError, match="classes that training images lack: a"):
        open_folder(tmp_path)
    (tmp_path / "val" / "a").rmdir()
    with pytest.raises(UserError, match="no images in"):
        open_folder(tmp_path)


@pytest.mark.parametrize("shape", [(6000, 1), (1, 6000), (2, 30000)])
def test_a_strip_takes_no_more_memory_than_a_image(shape: tuple[int, int]) -> None:
    """Resized whole, 6000x1 would be 256 x 1,536,000 pixels: 1.2 GB as bytes, and five times that in between."""
    strip = torch.zeros(3, *shape, dtype=torch.uint8)
    long = strip.movedim(1 + shape.index(max(shape)), 0)  # a view
    long[len(long) * 2 // 5 : len(long) * 3 // 5] = 200
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fitted = resize_and_center_crop(strip, 256, 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"
    assert fitted.shape == (256, 256, 3)
    assert (fitted == 200).all(), "its centre"


def test_what_is_no_class_and_no_image(image_folder: Path) -> None:
    plain = open_folder(image_folder)
    (image_folder / "training" / "n0" / ".ipynb_checkpoints").mkdir()
    shutil.copy(
        image_folder / "training" / "n0" / "0.jpg",
        image_folder / "training" / "n0" / ".ipynb_checkpoints" / "0-copy.jpg",
    )
    (image_folder / "training" / "n0" / "._0.jpg").write_bytes(b"Mac OS X")
    (image_folder / "training" / "__MACOSX" / "n0").mkdir(parents=True)
    assert open_folder(image_folder).classes == plain.classes
    assert open_folder(image_folder).state == plain.state
    (image_folder / "training" / "n7").mkdir()
    with pytest.raises(UserError, match="no images to train on in the class folders n7"):
        open_folder(image_folder)


def test_a_replaced_image_is_noticed_under_the_same_size_and_time(image_folder: Path) -> None:
    path = image_folder / "training" / "n0" / "2.bmp"
    info, before = path.stat(), open_folder(image_folder).state
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert path.stat().st_size == info.st_size
    after = open_folder(image_folder).state
    assert after != before
    assert after.split(":")[0] == before.split(":")[0], "which a copy on another disk shares"


def test_sixteen_bits_are_turned_too(tmp_path: Path) -> None:
    array = np.zeros((2, 3), np.uint16)
    array[0, 0] = 65535
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(array).save(tmp_path / "deep.png", exif=exif)
    turned = decode(tmp_path / "deep.png", value_range=(0, 65535))
    assert turned.shape == (3, 3, 2)
    assert turned[0].tolist() == [[0, 255], [0, 0], [0, 0]]
