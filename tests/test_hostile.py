"""What comes from a stranger runs nothing, writes nothing outside, and does not speak to the terminal."""

import io
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet.data import ImageDataModule
from alexnet.data.sources.torchvision import downloaded
from alexnet.errors import UserError
from tests.conftest import SMOKE, has, needs, quick, slow, train_py

TINY = (*SMOKE, "trainer.max_epochs=1", "trainer.limit_train_batches=1", "logger=none")


class Bomb:
    """Leaves a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What a bomb leaves."""
    pickle.loads(pickle.dumps(Bomb(tmp_path / "proof")))
    assert (tmp_path / "proof").exists(), "it does go off"
    return tmp_path / "mark"


def array(mark: Path) -> np.ndarray:
    return np.array([Bomb(mark)], dtype=object)


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def npy(value: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


def npz(**values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **values)  # type: ignore[arg-type]
    return file.getvalue()


RUN_FILES: dict[str, Callable[[Path], bytes]] = {
    "checkpoints/last.ckpt": lambda mark: saved({"config": Bomb(mark), "data": {}, "state_dict": {}}),
    "checkpoints/best.ckpt": lambda mark: pickle.dumps(Bomb(mark)),
    "test_right.npz": lambda mark: npz(images=np.array(269), top1=array(mark), top5=array(mark)),
    "config.yaml": lambda mark: f"!!python/object/apply:os.mkdir ['{mark}']\n".encode(),
    "overrides.yaml": lambda mark: f"- !!python/object/apply:os.mkdir ['{mark}']\n".encode(),
    "run.json": lambda mark: b"[" * 100_000,
    "metrics.json": lambda mark: b'{"test": ',
    "metrics.csv": lambda mark: b"\0\xff\n\0",
}


@slow
@pytest.mark.parametrize("name", RUN_FILES)
def test_the_files_of_a_run(name: str, smoke: Path, mark: Path, tmp_path: Path) -> None:
    """By every entry point that reads a run's folder."""
    folders = [tmp_path / f"run{i}" for i in range(2)]
    for folder in folders:
        shutil.copytree(smoke, folder)
    (folders[0] / name).write_bytes(RUN_FILES[name](mark))
    said = []
    if has("study"):
        said.append(quick("report.py", *map(str, folders), "--out", f"{tmp_path}/report", code=None))
    said.append(train_py(f"reproduce={folders[0]}", f"outputs={tmp_path}/o", "trainer.devices=1", code=None))
    if name != "metrics.json":
        (folders[0] / "metrics.json").unlink()
    said.append(train_py(f"resume={folders[0]}", code=None))
    image = tmp_path / "picture.png"
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(image)
    entry_points = (("evaluate.py",), ("predict.py", str(image)), ("export.py", "--format=safetensors"))
    for line in entry_points if has("inference") else ():
        said.append(quick(line[0], str(folders[0]), *line[1:], f"--out={tmp_path}/{line[0]}.png", code=None))
    said.append(train_py(*SMOKE, f"init_from={folders[0]}", f"outputs={tmp_path}/o", "logger=none", code=None))
    code = f"import alexnet, sys; alexnet.load({str(folders[0])!r})"
    (tmp_path / "load.py").write_text(code)
    loaded = quick(str(tmp_path / "load.py"), code=None)
    assert not mark.exists()
    assert loaded.returncode == (name == "checkpoints/best.ckpt")
    for done in said:
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode in (0, 1)


@pytest.mark.parametrize("name", ["images.npy", "mean.npy", "train.npz", "about.json", "names.json"])
def test_a_cache(name: str, image_folder: Path, mark: Path, tmp_path: Path) -> None:
    """It is packed anew."""

    def data() -> ImageDataModule:
        made = ImageDataModule("folder", str(image_folder), size=32, crop=32, cache_dir=str(tmp_path / "cache"))
        made.setup()
        return made

    first = data()
    (file,) = (tmp_path / "cache").rglob(name)
    bomb = array(mark)
    file.unlink()  # which is mapped
    file.write_bytes(npz(rows=bomb, labels=bomb) if name == "train.npz" else npy(bomb))
    again = data()
    assert not mark.exists()
    assert again.info == first.info
    assert np.array_equal(again.splits["train"].images, first.splits["train"].images)


@needs("model", "alexnet_torchvision")
def test_weights(mark: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    for content in (pickle.dumps(Bomb(mark)), saved({"features.0.weight": Bomb(mark)})):
        weights.write_bytes(content)
        said = train_py("model=alexnet_torchvision", f"model.weights={weights}", f"outputs={tmp_path}/o", code=1).stderr
        assert f"error: model.weights={weights}: no state dict that can be read safely" in said
        assert not mark.exists()
        assert not (tmp_path / "o").exists()


def test_downloads(mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that lie where torchvision looks for its own, which are pickles."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta", "train", "test", "meta"]
    for folder in ("cifar-10-batches-py", "cifar-100-python"):
        for name in names:
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / name).write_bytes(pickle.dumps(Bomb(mark)))
    (tmp_path / "meta.bin").write_bytes(saved(Bomb(mark)))
    for source in ("cifar10", "cifar100", "imagenet"):
        with pytest.raises(UserError, match=f"data={source} cannot be fetched"):
            downloaded(source, tmp_path)
        assert not mark.exists()


def test_an_archive_does_not_leave_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its checksum."""
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(root / "imagenette2.tgz", "w:gz") as archive:
        for name in ("../outside", "/" + str(tmp_path / "absolute"), "imagenette2/train/../../../outside"):
            archive.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("imagenette2/link")
        link.type, link.linkname = tarfile.SYMTYPE, "../../.."
        archive.addfile(link)
    monkeypatch.setattr("torchvision.datasets.utils.check_integrity", lambda *_: True)
    before = tarfile.TarFile.extractall

    def as_older_torchvision(self: tarfile.TarFile, path: Any, **_: Any) -> None:
        before(self, path)

    for extract in (before, as_older_torchvision):
        monkeypatch.setattr(tarfile.TarFile, "extractall", extract)
        with pytest.raises(UserError, match=r"data=imagenette cannot be fetched: .*outside"):
            downloaded("imagenette", root)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


ESCAPE = "\x1b]0;owned\x07\x1b[2J\rok\u202e"  # the title of the window, an empty screen, another line, right to left


@slow
def test_names_do_not_speak_to_the_terminal(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for name in ("a", f"b{ESCAPE}"):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (40, 40), (i, 0, 200)).save(folder / f"{i}{ESCAPE}.png")
    data = ("data=folder", f"data.root={tmp_path}/pictures", "data.size=67", "data.crop=67", f"outputs={tmp_path}/o")
    broken = tmp_path / "pictures" / "train" / f"b{ESCAPE}" / f"9{ESCAPE}.png"
    empty = tmp_path / "pictures" / "train" / f"c{ESCAPE}"
    said = [quick("prepare.py", *data, f"show={has('pictures')}".lower()), train_py(*TINY, *data)]
    broken.write_bytes(b"no image")
    said += [quick("prepare.py", *data, code=1), quick("prepare.py", *data, "data.on_broken=skip")]
    said.append(train_py(*TINY, *data, "data.packed=false", "trainer.limit_train_batches=1.0", code=1))
    said += [train_py("-m", *TINY, "seed=1,2", *data, "data.packed=false", "trainer.limit_train_batches=1.0", code=1)]
    empty.mkdir()
    said.append(quick("prepare.py", *data, code=1))
    named = tmp_path / f"named{ESCAPE}"
    said.append(train_py(*TINY, *data[:-1], "data.root=" + str(tmp_path / f"none{ESCAPE}"), f"outputs={named}", code=1))
    (tmp_path / "o").rename(named)
    if has("study"):
        said.append(quick("report.py", str(named), code=None))
    texts = [done.stdout + done.stderr for done in said]
    texts += [path.read_text() for path in named.rglob("train.log")]
    for text in texts:
        assert not {c for c in text if not c.isprintable() and c not in "\n\t"}, repr(text)
    assert any("x1b]0;owned" in text for text in texts)
