"""Class folders that a labels file gives names, as in the ten monkey species of Kaggle."""

import json
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
from PIL import Image

from alexnet.data import ImageDataModule
from alexnet.data.sources.csv_file import CsvImages
from alexnet.data.sources.folder import Reading, open_folder, open_test_folder
from alexnet.data.sources.images import open_images
from alexnet.data.sources.labels import class_of_folder
from alexnet.errors import UserError
from tests.conftest import MONKEYS, has, make_monkeys, quick, train_py

NAMES = ["mantled_howler", "patas_monkey", "bald_uakari"]


@pytest.fixture
def monkeys(tmp_path: Path) -> Path:
    return make_monkeys(tmp_path)


def test_classes_are_called_by_the_file(monkeys: Path, tmp_path: Path) -> None:
    """In the order of their folders, which the file's own does not change."""
    source = open_folder(monkeys)
    assert source.classes == NAMES
    assert any("monkey_labels.txt" in note for note in source.notes)
    data = ImageDataModule("folder", str(monkeys), size=32, crop=28, cache_dir=str(tmp_path / "cache"))
    data.setup()
    assert data.info.classes == NAMES
    assert [len(data.splits[name]) for name in ("train", "val", "test")] == [30, 9, 6]
    header, *rows = MONKEYS.splitlines(keepends=True)
    (monkeys / "monkey_labels.txt").write_text(header + "".join(reversed(rows)))
    assert open_folder(monkeys).classes == NAMES


def test_the_names_are_part_of_the_state(monkeys: Path) -> None:
    """What is packed under other names is packed again; the images have the same fingerprint."""
    named = open_folder(monkeys).state
    (monkeys / "monkey_labels.txt").unlink()
    plain = open_folder(monkeys)
    assert plain.classes == ["n0", "n1", "n2"]
    assert plain.state != named


def test_other_images_of_the_same_classes(monkeys: Path) -> None:
    """A network is tested on a folder whose classes the file calls as the network does, or that has these names."""
    tested = open_test_folder(monkeys / "validation" / "validation", NAMES)
    assert np.bincount(tested.splits["test"].labels).tolist() == [3, 3, 3]
    own = monkeys.parent / "own"
    own.mkdir()
    (monkeys / "training" / "training" / "n1").rename(own / "patas_monkey")
    assert open_test_folder(own, NAMES).splits["test"].labels.tolist() == [1] * 12
    with pytest.raises(UserError, match="classes that training images lack: n0, n2"):
        open_test_folder(monkeys / "training" / "training", ["a", "b"])


@pytest.mark.parametrize(
    ("names", "similar"),
    [
        (["Cat", "cat", "dog"], ["'Cat'", "'cat'"]),
        (["hot dog", "dog", "hot_dog"], ["'hot dog'", "'hot_dog'"]),
        (["dog", "dogs"], []),
        (["A", "a", "b"], []),
    ],
)
def test_names_that_differ_only_in_case_or_spaces(names: list[str], similar: list[str], tmp_path: Path) -> None:
    """One class is often spelled in two ways, and the network would learn to tell them apart."""
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"{i}.png,{name}\n" for i, name in enumerate(names)))
    notes = open_images(CsvImages(str(tmp_path / "labels.csv")), Reading()).notes
    assert len(notes) == bool(similar)
    assert all(name in note for note in notes for name in similar)


def test_folders_that_differ_only_in_spaces(tmp_path: Path) -> None:
    for name in ("hot dog", "hot_dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "train" / name / "1.png")
    (note,) = open_folder(tmp_path).notes
    assert "'hot dog' and 'hot_dog'" in note


def test_a_file_that_lacks_a_folder(monkeys: Path) -> None:
    (monkeys / "monkey_labels.txt").write_text(MONKEYS.replace("n2 ", "n3 "))
    with pytest.raises(UserError, match="names no class for the folders n2"):
        open_folder(monkeys)


def test_two_classes_of_one_name(monkeys: Path) -> None:
    """As ImageNet's two cranes. A test folder that has one of them alone has it under the same name."""
    (monkeys / "monkey_labels.txt").write_text(MONKEYS.replace("bald_uakari", "patas_monkey"))
    classes = open_folder(monkeys).classes
    assert classes == ["mantled_howler", "patas_monkey (n1)", "patas_monkey (n2)"]
    rmtree(monkeys / "validation" / "validation" / "n1")
    tested = open_test_folder(monkeys / "validation" / "validation", classes)
    assert np.bincount(tested.splits["test"].labels).tolist() == [3, 0, 3]


@pytest.mark.parametrize(
    "text",
    [
        "label,name\nn0,a.jpg\nn0,b.jpg\nn1,c.jpg\nn2,d.jpg\n",  # a list of images
        "image,class\na.jpg,n0\n",
        "n0\nn1\nn2\n",
        "",
        "\x00\x01",
    ],
)
def test_what_is_another_kind_of_file(text: str, monkeys: Path) -> None:
    (monkeys / "monkey_labels.txt").write_text(text)
    assert open_folder(monkeys).classes == ["n0", "n1", "n2"]


def test_a_file_above_the_root_is_none_of_its(monkeys: Path) -> None:
    """Somebody else's, which may name some of the folders alone."""
    (monkeys / "monkey_labels.txt").rename(monkeys.parent / "labels.csv")
    assert open_folder(monkeys).classes == ["n0", "n1", "n2"]


@pytest.mark.parametrize("where", ["labels.csv", "training/training/classes.tsv"])
def test_other_files_of_this_kind(where: str, monkeys: Path) -> None:
    (monkeys / "monkey_labels.txt").unlink()
    rows = ["folder\tname", *(f"n{i}\t{name}" for i, name in enumerate(NAMES))]
    (monkeys / where).write_text("\n".join(rows))
    assert open_folder(monkeys).classes == NAMES


@pytest.mark.skipif(not has("inference"), reason="it predicts")
def test_a_run_on_them(monkeys: Path, tmp_path: Path) -> None:
    tiny = ("experiment=smoke", "model.width=0.125", "panels=none", "logger=none")
    train_py(*tiny, "data=folder", f"data.root={monkeys}", f"run_dir={tmp_path}/run", "data.size=80", "data.crop=67")
    said = quick("predict.py", f"{tmp_path}/run", str(monkeys / "validation" / "validation" / "n2"), "--json").stdout
    images = json.loads(said)["pictures"]
    assert [image["class"] for image in images] == ["bald_uakari"] * 3
    assert all({top["class"] for top in image["top"]} == set(NAMES) for image in images)


def test_the_class_of_a_folder(monkeys: Path) -> None:
    place = monkeys / "validation" / "validation"
    assert class_of_folder(place / "n1", NAMES) == "patas_monkey"
    assert class_of_folder(place / "patas_monkey", NAMES) == "patas_monkey"
    assert class_of_folder(place / "n1", ["cat", "dog"]) is None
    assert class_of_folder(place / "n3", NAMES) is None
    assert class_of_folder(Path("/n1"), NAMES) is None
