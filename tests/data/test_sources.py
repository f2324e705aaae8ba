from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from alexnet.checks import UserError
from alexnet.data.sources import digits, fake, find_folders, folder, stratified


@pytest.mark.parametrize("seed", range(8))
def test_stratified_split(seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, draw.integers(2, 12), draw.integers(20, 800))
    parts = stratified(labels, {"train": 0.7, "val": 0.2, "test": 0.1})
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(labels)))
    for label, n in Counter(labels.tolist()).items():
        for name, share in (("val", 0.2), ("test", 0.1)):
            assert (labels[parts[name]] == label).sum() == round(share * n)
    again = stratified(labels, {"train": 0.7, "val": 0.2, "test": 0.1})
    assert all(np.array_equal(parts[name], again[name]) for name in parts)


def test_digits_are_all_there_once_and_scaled_up() -> None:
    splits, classes = digits(16)
    assert {name: len(p) for name, p in splits.items()} == {"train": 1259, "val": 269, "test": 269}
    assert classes == list("0123456789")
    raw = load_digits()
    small = np.concatenate([p.images for p in splits.values()])[:, 0].astype(float)
    means = small.reshape(-1, 8, 2, 8, 2).mean((2, 4)) * 16 / 255  # what bilinear scaling keeps, but for the edges
    key = lambda images, labels: sorted(zip(labels, images.mean((1, 2)).round(1), strict=True))  # noqa: E731
    found = key(means, np.concatenate([p.labels for p in splits.values()]))
    expected = key(raw.images, raw.target)
    assert all(a == b and abs(x - y) < 0.3 for (a, x), (b, y) in zip(found, expected, strict=True))
    for p in splits.values():
        assert min(Counter(p.labels.tolist()).values()) > 0.08 * len(p)


def test_fake_pictures_can_be_told_apart() -> None:
    splits, classes = fake(32, 3, 4)
    train, test = splits["train"], splits["test"]
    assert train.images.shape == (512, 3, 32, 32)
    assert len(classes) == 4
    means = np.stack([train.images[train.labels == c].mean(0) for c in range(4)])
    guess = ((test.images[:, None] - means) ** 2).mean((2, 3, 4)).argmin(1)
    assert (guess == test.labels).mean() > 0.9


def test_folder_with_the_slides_names(pictures: Path) -> None:
    splits, classes = folder(pictures, 32)
    assert classes == ["n0", "n1"]
    assert sum(len(splits[s]) for s in ("train", "test")) == 16, "test/ is missing, and is taken from training/"
    assert len(splits["test"]) == 2
    assert splits["val"].labels.tolist() == [0, 0, 0, 1, 1, 1]
    blue = splits["train"].images[splits["train"].labels == 0].mean((0, 2, 3))
    assert blue == pytest.approx([40, 40, 200], abs=15)


def test_folder_decodes_whatever_pil_reads_as_rgb(tmp_path: Path) -> None:
    for i, mode in enumerate(("L", "P", "RGBA", "CMYK", "LA", "1")):
        (tmp_path / "a").mkdir(exist_ok=True)
        image = Image.new("RGB", (50, 40), (255, 255, 255)).convert(mode)
        image.save(tmp_path / "a" / f"{i}.{'jpg' if mode == 'CMYK' else 'png'}")
    splits, _ = folder(tmp_path, 16)
    assert all((p.images > 250).all() for p in splits.values() if len(p))


def test_folder_honours_the_camera_that_was_turned(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    image = Image.new("RGB", (40, 40))
    image.paste((255, 0, 0), (0, 0, 40, 20))  # red above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: what is above comes to the right
    image.save(tmp_path / "a" / "x.png", exif=exif)
    stored = folder(tmp_path, 10)[0]["train"].images[0]
    assert stored[0, :, 8].min() > 200
    assert stored[0, :, 1].max() < 50


def test_shorter_side_then_centre(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    image = Image.new("RGB", (120, 40))
    image.paste((0, 255, 0), (40, 0, 80, 40))
    image.save(tmp_path / "a" / "x.png")
    stored = folder(tmp_path, 20)[0]["train"].images[0]
    assert stored[1, :, 1:-1].min() > 200, "the middle third is what a centre crop of 3:1 keeps"


def test_two_classes_and_five_pictures(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"c{i % 2}").mkdir(exist_ok=True)
        Image.new("RGB", (30, 30), (i, 0, 0)).save(tmp_path / f"c{i % 2}" / f"{i}.jpg")
    splits, classes = folder(tmp_path, 16)
    assert classes == ["c0", "c1"]
    assert sum(map(len, splits.values())) == 5
    assert len(splits["train"])


def test_broken_pictures_are_all_named(pictures: Path) -> None:
    (pictures / "training" / "n0" / "broken one.jpg").write_text("no picture")
    whole = pictures / "training" / "n1" / "0.jpg"
    whole.write_bytes(whole.read_bytes()[:300])
    with pytest.raises(UserError, match="2 pictures cannot be read") as error:
        folder(pictures, 16)
    assert "broken one.jpg" in str(error.value)
    assert "n1/0.jpg" in str(error.value)


def test_folders_that_do_not_suit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        find_folders(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no class folders"):
        find_folders(tmp_path)
    (tmp_path / "val" / "a").mkdir(parents=True)
    with pytest.raises(ValueError, match="no train or training"):
        find_folders(tmp_path)
    (tmp_path / "train" / "b").mkdir(parents=True)
    with pytest.raises(UserError, match="classes that the training pictures lack: a"):
        folder(tmp_path, 16)
    (tmp_path / "val" / "a").rmdir()
    with pytest.raises(UserError, match="no pictures in"):
        folder(tmp_path, 16)
