"""Which folders of somebody's tree are splits, and which are classes."""

from pathlib import Path

import pytest
from PIL import Image

from alexnet.data import ImageDataModule
from alexnet.data.sources.folder import open_folder, open_test_folder
from alexnet.data.sources.layout import split_of
from alexnet.errors import ArgumentError, UserError


def tree(root: Path, **counts: int) -> Path:
    """Writes so many images into each folder; __ stands for /."""
    for name, count in counts.items():
        place = root / name.replace("__", "/")
        place.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(place / f"{i}.png")
    return root


def sizes(root: Path) -> dict[str, int]:
    return {name: len(split.labels) for name, split in open_folder(root).splits.items()}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Training", "train"), ("TRAIN", "train"), ("train_images", "train"), ("trainset", "train"),
        ("seg_train", "train"), ("training-set", "train"), ("ILSVRC2012_img_train", "train"), ("TrainData", "train"),
        ("val2017", "val"), ("Validation", "val"), ("valid", "val"), ("seg_test", "test"), ("Testing", "test"),
        ("test set", "test"), ("TestImages", "test"), ("bullet_train", "train"), ("trainer", None), ("contest", None),
        ("strain", None), ("valley", None), ("cat", None), ("train_val", None), ("猿", None),
    ],
)  # fmt: skip
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("train", "test"),
    [("Training", "Testing"), ("train", "Test"), ("train_images", "test_images"), ("seg_train", "seg_test"),
     ("train2014", "TEST"), ("training_set", "test_set"), ("training__training", "testing__testing"),
     ("seg_train__seg_train", "seg_test__seg_test")],
)  # fmt: skip
def test_splits_are_no_classes(train: str, test: str, tmp_path: Path) -> None:
    tree(tmp_path, **{f"{train}__a": 20, f"{train}__b": 20, f"{test}__a": 3, f"{test}__b": 4})
    assert open_folder(tmp_path).classes == ["a", "b"]
    assert sizes(tmp_path) == {"train": 34, "val": 6, "test": 7}


def test_a_folder_that_wraps_all(tmp_path: Path) -> None:
    tree(tmp_path / "monkeys", monkeys__train__a=20, monkeys__train__b=20, monkeys__test__a=1, monkeys__test__b=1)
    assert sizes(tmp_path / "monkeys") == {"train": 34, "val": 6, "test": 2}
    assert ImageDataModule("folder", str(tmp_path / "monkeys")).num_classes == 2
    tree(tmp_path / "other", images__train__a=20, images__train__b=20, images__val__a=1, images__val__b=1)
    assert sizes(tmp_path / "other") == {"train": 34, "val": 2, "test": 6}


@pytest.mark.parametrize(
    "counts",
    [
        {"train": 2, "car": 2, "plane": 2},  # a class really called train
        {"train__a": 2, "train__b": 2, "car": 2, "plane": 2},
        {"seg_test": 2, "seg_train": 2, "other": 2},
        {"bullet_train__2019": 2, "cat": 2},
    ],
)
def test_two_readings_are_refused_and_both_are_named(counts: dict[str, int], tmp_path: Path) -> None:
    tree(tmp_path, **counts)
    with pytest.raises(UserError) as error:
        open_folder(tmp_path)
    candidate, other = (
        next(name for name in counts if (split_of(name.partition("__")[0]) is None) == is_class).partition("__")[0]
        for is_class in (False, True)
    )
    assert candidate in str(error.value)
    assert f"train/{other}" in str(error.value)
    with pytest.raises(ArgumentError):
        ImageDataModule("folder", str(tmp_path))


def test_classes_whose_names_hold_a_split(tmp_path: Path) -> None:
    tree(tmp_path, bullet_train=3, electric_train=3, test_tube=3, cat=3)
    assert open_folder(tmp_path).classes == ["bullet_train", "cat", "electric_train", "test_tube"]


def test_splits_without_class_folders_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, Train=3, Test=3)
    with pytest.raises(UserError, match="Test and Train"):
        open_folder(tmp_path)


def test_splits_inside_classes_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, cat__train=3, cat__test=3, dog__train=3, dog__test=3)
    with pytest.raises(UserError, match=r"cat.*test, train"):
        open_folder(tmp_path)


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, train__a=2, train__b=2, train_augmented__a=2, train_augmented__b=2)
    with pytest.raises(UserError, match="train and train_augmented"):
        open_folder(tmp_path)


def test_images_without_labels_are_counted(tmp_path: Path) -> None:
    tree(tmp_path, train__a=20, train__b=20, test=7, extra=5)
    assert sizes(tmp_path) == {"train": 34, "val": 6, "test": 0}
    notes = open_folder(tmp_path).notes
    assert any("test" in note and "7 images" in note and "nothing is tested" in note for note in notes)
    assert any("extra" in note and "5 images" in note for note in notes)
    assert any("7 images outside class folders" in note for note in notes)
    data = ImageDataModule("folder", str(tmp_path), size=8, crop=8, cache_dir=str(tmp_path / "cache"))
    data.setup()
    assert not data.has("test")
    assert notes[0] in data.notes


def test_an_archive_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "monkeys.zip").touch()
    with pytest.raises(UserError, match=r"monkeys\.zip: a file"):
        open_folder(tmp_path / "monkeys.zip")


def test_a_class_that_is_not_tested_is_named(tmp_path: Path) -> None:
    tree(tmp_path, train__a=2, train__b=2, test__a=2)
    assert any("test" in note and note.endswith("b") for note in open_folder(tmp_path).notes)


@pytest.mark.parametrize("counts", [{"b": 3, "a": 2}, {"test__b": 3, "test__a": 2}, {"train__a": 9, "Test__b": 5}])
def test_a_folder_of_test_images(counts: dict[str, int], tmp_path: Path) -> None:
    source = open_test_folder(tree(tmp_path, **counts), ["a", "b", "c"])
    assert source.classes == ["a", "b", "c"]
    assert list(source.splits) == ["test"]
    assert len(source.splits["test"].labels) == 5
    assert source.splits["test"].labels.max() == 1


def test_a_class_called_train_is_known_from_the_network(tmp_path: Path) -> None:
    tree(tmp_path, train=2, car=3)
    assert len(open_test_folder(tmp_path, ["car", "plane", "train"]).splits["test"].labels) == 5


def test_test_folders_that_do_not_suit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dog"):
        open_test_folder(tree(tmp_path / "1", dog=1), ["a", "b"])
    with pytest.raises(UserError, match=r"no test.*2/train"):
        open_test_folder(tree(tmp_path / "2", train__a=1, val__a=1), ["a", "b"])
    with pytest.raises(UserError, match="no labelled images"):
        open_test_folder(tree(tmp_path / "3", test=1, train__a=1), ["a", "b"])


def test_folders_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, a=2, b=2)

    def refuse(path: Path | str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(UserError, match=r"data\.root=.*Permission denied"):
        open_folder(tmp_path)
    with pytest.raises(ValueError, match=r"root=.*Permission denied"):
        ImageDataModule("folder", str(tmp_path))
