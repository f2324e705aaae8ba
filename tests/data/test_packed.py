import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet.data import ImageDataModule, packing
from alexnet.data.packed import PackedDataset
from alexnet.data.packing import pack_in_memory, pack_on_disk
from alexnet.data.sources.folder import open_folder
from alexnet.errors import UserError
from tests.conftest import slow


def pack(image_folder: Path, cache: Path, on_broken: str = "error") -> PackedDataset:
    return pack_on_disk(open_folder(image_folder), cache / "set", 24, 3, on_broken)


def test_what_is_packed_is_what_was_read(image_folder: Path, tmp_path: Path) -> None:
    on_disk, in_memory = pack(image_folder, tmp_path), pack_in_memory(open_folder(image_folder), 24, 3)
    assert on_disk.info == in_memory.info
    train = on_disk.splits["train"]
    assert np.allclose(on_disk.mean_image, train.images[train.rows].mean(0), rtol=1e-6)
    assert np.array_equal(on_disk.mean_image, in_memory.mean_image)
    assert on_disk.names == in_memory.names
    for name, p in on_disk.splits.items():
        q = in_memory.splits[name]
        assert np.array_equal(p.images[p.rows], q.images[q.rows])
        assert p.labels.tolist() == q.labels.tolist()
        assert all(str(label) in path for label, path in zip(p.labels, on_disk.names[name], strict=True))
    assert_measured(on_disk)


def test_images_of_two_splits_are_counted(image_folder: Path, tmp_path: Path) -> None:
    """Under another name, in the folder of another class, and even with another ending."""
    assert not pack(image_folder, tmp_path).info.repeated
    training, validation = image_folder / "training", image_folder / "validation"
    shutil.copy(training / "n0" / "0.jpg", validation / "n1" / "copy.jpg")
    Image.open(training / "n1" / "1.png").save(validation / "n1" / "same.bmp")
    info = pack(image_folder, tmp_path).info
    assert info.repeated == {"val": 2}
    note, _ = info.notes
    assert "2 of 8 val images" in note
    assert "n1/copy.jpg and the training image n0/0.jpg" in note


def test_an_image_of_two_classes_is_named(image_folder: Path, tmp_path: Path) -> None:
    training = image_folder / "training"

    def contradictions() -> list[str]:
        return [note for note in pack(image_folder, tmp_path).info.notes if "several classes" in note]

    shutil.copy(training / "n0" / "0.jpg", training / "n0" / "again.jpg")
    assert not contradictions(), "a copy in its own class contradicts nothing"
    for copy in ("a.jpg", "b.jpg"):
        shutil.copy(training / "n0" / "0.jpg", training / "n1" / copy)
    (note,) = contradictions()
    assert re.search(r": 1, such as n0/(0|again)\.jpg and n1/[ab]\.jpg", note)


def assert_measured(packed: PackedDataset) -> None:
    """The statistics are those of the training images that are there."""
    train = packed.splits["train"]
    pixels = train.images[train.rows].reshape(-1, 3) / 255
    assert packed.info.mean == pytest.approx(pixels.mean(0), abs=1e-6)
    assert np.allclose(packed.info.covariance, np.cov(pixels.T, bias=True), atol=1e-6)


def test_packed_once_and_again_only_when_the_source_has_changed(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    original = packing._build
    monkeypatch.setattr(packing, "_build", lambda *a: built.append(1) or original(*a))
    first = pack(image_folder, tmp_path).info
    assert pack(image_folder, tmp_path).info == first
    assert len(built) == 1
    path = image_folder / "training" / "n0" / "0.jpg"
    Image.new("RGB", (33, 33)).save(path)
    assert pack(image_folder, tmp_path).info.fingerprint != first.fingerprint
    assert len(built) == 2
    info = tmp_path / "set" / "about.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"format": 0, "gone": 1}))
    pack(image_folder, tmp_path)
    assert len(built) == 3, "a cache of another format is built anew"
    assert {p.name for p in tmp_path.iterdir()} >= {"set", "set.lock"}
    assert not list(tmp_path.glob("*.part"))


def test_fingerprint_changes_with_a_pixel_and_with_a_label() -> None:
    data = ImageDataModule("fake", num_classes=4, size=20, crop=16)
    data.setup()
    from alexnet.data.sources import fake
    from alexnet.data.splits import Source

    source = fake(20, 3, 4)
    split = source.splits["val"]

    def changed(i: int, label: int, pixel: int) -> str:
        labels = split.labels.copy()
        labels[i] = label

        def read(j: int) -> Any:
            image = split.read(j).clone()
            image[0, 0, 0] += pixel if j == i else 0
            return image

        from alexnet.data.splits import Split

        other = Source(source.classes, "", source.splits | {"val": Split(labels, split.names, read)})
        return pack_in_memory(other, 20, 3).info.fingerprint

    label = int(split.labels[5])
    assert changed(5, label, 0) == data.info.fingerprint
    assert len({changed(5, label, 0), changed(5, label, 1), changed(5, (label + 1) % 4, 0)}) == 3


def break_two(image_folder: Path) -> None:
    (image_folder / "training" / "n0" / "text.jpg").write_text("no image")
    whole = image_folder / "training" / "n1" / "0.jpg"
    whole.write_bytes(whole.read_bytes()[:300])


def test_broken_images_are_all_named_or_left_out(image_folder: Path, tmp_path: Path) -> None:
    break_two(image_folder)
    with pytest.raises(UserError, match="2 of 23 images cannot be read") as error:
        pack(image_folder, tmp_path)
    assert "n0/text.jpg" in str(error.value)
    assert "n1/0.jpg" in str(error.value)
    assert not (tmp_path / "set").exists()
    some = pack(image_folder, tmp_path, "skip")
    assert sum(map(len, some.splits.values())) == 21
    assert len(some.info.broken) == 2
    assert_measured(some)
    assert all("text.jpg" not in name for names in some.names.values() for name in names)
    with pytest.raises(UserError, match="2 of 23"):
        pack(image_folder, tmp_path, "error")


def test_a_disk_that_is_too_small_is_said_before(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"0\.00 GB are needed, and 0\.00 GB are free"):
        pack(image_folder, tmp_path)
    assert not list(tmp_path.glob("set*[!k]"))


def test_a_cache_that_cannot_be_written(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"data.cache_dir: cannot write .*Choose data.cache_dir=FOLDER"):
        pack(image_folder, tmp_path / "file" / "cache")


def test_a_disk_that_writes_in_pieces(image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And images of 625 pixels, which is no multiple of those that are measured together."""
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: write(file, data[:1000], place))
    on_disk = pack_on_disk(open_folder(image_folder), tmp_path / "set", 25, 3, "error")
    in_memory = pack_in_memory(open_folder(image_folder), 25, 3)
    assert on_disk.info == in_memory.info
    assert np.array_equal(on_disk.splits["val"].images, in_memory.splits["val"].images)
    assert_measured(on_disk)


def test_a_disk_that_fills_up(image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UserError, match=r"cannot write .*No space left on device. Choose data.cache_dir=FOLDER"):
        pack(image_folder, tmp_path)
    assert not list(tmp_path.glob("set*[!k]"))


def _pack_and_say(image_folder: Path, cache: Path, queue: Any) -> None:
    queue.put(pack(image_folder, cache).info.fingerprint)


@slow
def test_many_processes_at_once(image_folder: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_pack_and_say, args=(image_folder, tmp_path, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    said = {queue.get(timeout=120) for _ in processes}
    for process in processes:
        process.join(60)
    assert said == {pack_in_memory(open_folder(image_folder), 24, 3).info.fingerprint}


@slow
def test_killed_in_the_middle_it_starts_again(image_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from alexnet.data import packing; from alexnet.data.sources import folder\n"
        "slow = folder.decode\n"
        "def wait(path, **how): time.sleep(0.3); return slow(path, **how)\n"
        "folder.decode = wait\n"
        "where, cache = map(Path, sys.argv[1:3])\n"
        "packing.pack_on_disk(folder.open_folder(where), cache / 'set', 24, 3, 'error')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(image_folder), str(tmp_path)])
    while not (tmp_path / "set.part" / "images.npy").exists():
        time.sleep(0.05)
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "set").exists()
    assert len(pack(image_folder, tmp_path).splits["val"]) == 6
    assert not (tmp_path / "set.part").exists()


def test_what_is_packed_is_opened_without_a_lock(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pack(image_folder, tmp_path).info
    monkeypatch.setattr(packing, "wait_for", pytest.fail)
    assert pack(image_folder, tmp_path).info == first


def test_a_cache_that_others_may_only_read(image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = pack(image_folder, tmp_path / "cache")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert pack(image_folder, tmp_path / "cache").info == fresh.info
    with pytest.raises(UserError, match="cannot write"):
        pack(image_folder, tmp_path / "other")


def test_a_deleted_part_of_the_cache_is_made_again(image_folder: Path, tmp_path: Path) -> None:
    fresh = pack(image_folder, tmp_path / "cache")
    (part,) = (tmp_path / "cache").rglob("val.npz")
    part.unlink()
    again = pack(image_folder, tmp_path / "cache")
    assert again.splits.keys() == fresh.splits.keys()
    assert again.info == fresh.info
