"""Each set that torchvision fetches, from a stand-in archive in the official layout on a server of the test's own.

The code that fetches, verifies, unpacks and reads is torchvision's; its addresses and checksums are the stand-ins'.
"""

import gzip
import hashlib
import io
import multiprocessing
import os
import pickle
import signal
import struct
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from filelock import FileLock
from PIL import Image
from torchvision import datasets
from torchvision.datasets import imagenet

from alexnet.data import ImageDataModule
from alexnet.data.sources.torchvision import DOWNLOADS, downloaded
from alexnet.data.splits import Source

Content = dict[str, list[tuple[str, bytes]]]  # of each official split, the class and the pixels of every image


@pytest.fixture
def asked() -> Counter[str]:
    """How often each file was asked for."""
    return Counter()


@pytest.fixture
def served(tmp_path: Path, asked: Counter[str]) -> Iterator[tuple[Path, str]]:
    """A folder and its address."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked[self.path.strip("/")] += (
                "Method" not in self.headers
            )  # with it torchvision asks for the address alone
            super().do_GET()

        def log_message(self, *_: Any) -> None: ...

    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def official(served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Content]:
    """Lays out the archives of a source where torchvision will look for them, and says what is in them."""
    folder, address = served

    def lay_out(source: str) -> Content:
        if source == "imagenet":
            (tmp_path / "root").mkdir()
            return _imagenet(tmp_path / "root", monkeypatch)
        make = {"mnist": _mnist, "fashion_mnist": _mnist, "imagenette": _imagenette}.get(source, _cifar)
        return make(source, folder, address, monkeypatch)

    return lay_out


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def _archive(path: Path, files: dict[str, bytes]) -> str:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return _md5(path)


def _mnist(source: str, folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Content:
    draw, kind = np.random.default_rng(0), {"mnist": datasets.MNIST}.get(source, datasets.FashionMNIST)
    content: Content = {}
    for split, name, n in (("train", "train", 200), ("test", "t10k", 50)):
        images, labels = draw.integers(0, 256, (n, 28, 28), np.uint8), np.arange(n, dtype=np.uint8) % 10
        for part, count, header in (("images", 3, (2051, n, 28, 28)), ("labels", 1, (2049, n))):
            values = images if part == "images" else labels
            with gzip.open(folder / f"{name}-{part}-idx{count}-ubyte.gz", "wb") as file:
                file.write(struct.pack(f">{len(header)}I", *header) + values.tobytes())
        names = [kind.classes[label] for label in labels]
        content[split] = [(label, image.tobytes()) for label, image in zip(names, images, strict=True)]
    monkeypatch.setattr(kind, "mirrors", [address])
    monkeypatch.setattr(kind, "resources", [(name, _md5(folder / name)) for name, _ in kind.resources])
    return content


def _cifar(source: str, folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Content:
    draw, hundred = np.random.default_rng(0), source == "cifar100"
    kind: Any = datasets.CIFAR100 if hundred else datasets.CIFAR10
    names = [f"name {i}" for i in range(100 if hundred else 10)]
    files, content = {}, Content(train=[], test=[])
    for name, _ in (*kind.train_list, *kind.test_list):
        n = 1000 if name == "train" else 100 if hundred else 40
        pixels, labels = draw.integers(0, 256, (n, 3072), dtype=np.uint8), [i % len(names) for i in range(n)]
        files[name] = pickle.dumps({"data": pixels, "fine_labels" if hundred else "labels": labels})
        found = content["test" if name.startswith("test") else "train"]
        planes = pixels.reshape(n, 3, 32, 32).transpose(0, 2, 3, 1)
        found += [(names[label], image.tobytes()) for label, image in zip(labels, planes, strict=True)]
    files[kind.meta["filename"]] = pickle.dumps({kind.meta["key"]: names})
    md5 = {name: hashlib.md5(pickled).hexdigest() for name, pickled in files.items()}
    path = folder / kind.filename
    archive = _archive(path, {f"{kind.base_folder}/{name}": pickled for name, pickled in files.items()})
    for key, value in {
        "url": address + kind.filename,
        "tgz_md5": archive,
        "train_list": [[name, md5[name]] for name, _ in kind.train_list],
        "test_list": [[name, md5[name]] for name, _ in kind.test_list],
        "meta": kind.meta | {"md5": md5[kind.meta["filename"]]},
    }.items():
        monkeypatch.setattr(kind, key, value)
    return content


def _photo(level: int) -> tuple[bytes, bytes]:
    """A JPEG, and its pixels."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (level, level, level)).save(file, "JPEG", quality=95)
    return file.getvalue(), np.asarray(Image.open(file)).tobytes()


def _imagenette(source: str, folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Content:
    files, content = {}, Content(train=[], test=[])
    for number, name in enumerate(datasets.Imagenette._WNID_TO_CLASS):
        for split, n in (("train", 10), ("val", 3)):
            for i in range(n):
                files[f"imagenette2/{split}/{name}/{i}.JPEG"], pixels = _photo(20 * number + i)
                content["train" if split == "train" else "test"].append((name, pixels))
    md5 = _archive(folder / "imagenette2.tgz", files)
    monkeypatch.setattr(datasets.Imagenette, "_ARCHIVES", {"full": (f"{address}imagenette2.tgz", md5)})
    return content


def _imagenet(root: Path, monkeypatch: pytest.MonkeyPatch) -> Content:
    """A devkit, an archive of archives, and one of images whose classes the devkit alone knows."""
    names, content = ["n01440764", "n01443537", "n01484850"], Content(train=[], test=[])
    fields = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height"]
    synsets = np.zeros(4, [(field, object) for field in fields])
    for i, name in enumerate([*names, "n00000001"]):  # the last is above the others
        synsets[i] = (i + 1, name, f"fish {i}, swimmer", "it swims", 0 if name in names else 3, 0, 0)
    matrix = io.BytesIO()
    scipy.io.savemat(matrix, {"synsets": synsets})
    order = [3, 1, 2, 2, 1, 3]
    devkit = "ILSVRC2012_devkit_t12/data"
    files: dict[str, dict[str, bytes]] = {"devkit": {f"{devkit}/meta.mat": matrix.getvalue()}, "train": {}, "val": {}}
    files["devkit"][f"{devkit}/ILSVRC2012_validation_ground_truth.txt"] = "".join(f"{i}\n" for i in order).encode()
    for number, name in enumerate(names):
        inner = {}
        for i in range(60):
            inner[f"{name}_{i}.JPEG"], pixels = _photo(80 * number + i)
            content["train"].append((name, pixels))
        _archive(root / "inner.tar", inner)
        files["train"][f"{name}.tar"] = (root / "inner.tar").read_bytes()
    for i, number in enumerate(order):
        files["val"][f"ILSVRC2012_val_{i + 1:08}.JPEG"], pixels = _photo(200 + i)
        content["test"].append((names[number - 1], pixels))
    (root / "inner.tar").unlink()
    for part, (name, _) in list(imagenet.ARCHIVE_META.items()):
        monkeypatch.setitem(imagenet.ARCHIVE_META, part, (name, _archive(root / name, files[part])))
    return content


def pixels_of(source: Source, *splits: str) -> list[tuple[str, bytes]]:
    found = []
    for split in splits:
        images = source.splits[split]
        for i, label in enumerate(images.labels.tolist()):
            found.append((source.classes[label], images.read(i).permute(1, 2, 0).numpy().tobytes()))
    return sorted(found)


@pytest.mark.parametrize("source", DOWNLOADS)
def test_every_image_of_the_official_archives_is_read(
    source: str, official: Callable[[str], Content], asked: Counter[str], tmp_path: Path
) -> None:
    content = official(source)
    for _ in range(2):
        read = downloaded(source, tmp_path / "root")
        assert pixels_of(read, "train", "val") == sorted(content["train"])
        assert pixels_of(read, "test") == sorted(content["test"])
        share = 0.02 if source == "imagenet" else 0.1
        assert len(read.splits["val"].labels) == pytest.approx(share * len(content["train"]), abs=3)
    assert set(asked.values()) <= {1}, "fetched once"
    assert bool(asked) == (source != "imagenet"), "which nobody may fetch without an account"
    if source != "imagenet":  # of which three classes are too few
        size = 28 if "mnist" in source else 32
        arguments: Any = {"size": size, "crop": size, "channels": 1 if "mnist" in source else 3}
        data = ImageDataModule(source, str(tmp_path / "root"), cache_dir=str(tmp_path / "cache"), **arguments)
        data.setup()
        assert data.info.classes == read.classes
        assert len(data.splits["test"]) == len(content["test"])


def _fetch(source: str, root: Path) -> list[int]:
    return [len(split.labels) for split in downloaded(source, root).splits.values()]


@pytest.mark.parametrize("source", ["mnist", "cifar10", "imagenette", "imagenet"])
def test_ten_jobs_fetch_once(
    source: str, official: Callable[[str], Content], asked: Counter[str], tmp_path: Path
) -> None:
    content = official(source)
    with multiprocessing.get_context("fork").Pool(10) as pool:
        found = pool.starmap(_fetch, [(source, tmp_path / "root")] * 10, chunksize=1)
    assert found == [found[0]] * 10
    assert sum(found[0]) == sum(map(len, content.values()))
    assert set(asked.values()) <= {1}


@pytest.mark.parametrize("source", ["mnist", "cifar10", "imagenette", "imagenet"])
def test_killed_while_it_unpacks(
    source: str, official: Callable[[str], Content], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = official(source)

    def killed() -> None:
        with open(tmp_path / "root" / "half", "wb"):
            os.kill(os.getpid(), signal.SIGKILL)

    def half_unpacked(path: Path, to: Path | None = None, *_: Any, **__: Any) -> None:
        if source == "mnist":
            with gzip.open(path) as packed:
                Path(path).with_suffix("").write_bytes(packed.read(20 if "t10k-labels" in str(path) else -1))
            if "t10k-labels" not in str(path):
                return
        else:
            with tarfile.open(path) as tar:
                for member in tar.getmembers()[:2]:
                    tar.extract(member, to, filter="data")
        killed()

    with monkeypatch.context() as patched:
        patched.setattr("torchvision.datasets.utils.extract_archive", half_unpacked)
        patched.setattr("torchvision.datasets.imagenet.extract_archive", half_unpacked)
        process = multiprocessing.get_context("fork").Process(target=_fetch, args=(source, tmp_path / "root"))
        process.start()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    read = downloaded(source, tmp_path / "root")
    assert pixels_of(read, "train", "val", "test") == sorted(content["train"] + content["test"])
    assert not (tmp_path / "root" / ".unpacking").exists()


def test_a_folder_that_others_may_only_read(
    official: Callable[[str], Content], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = official("mnist")
    downloaded("mnist", tmp_path / "root")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert pixels_of(downloaded("mnist", tmp_path / "root"), "test") == sorted(content["test"])
