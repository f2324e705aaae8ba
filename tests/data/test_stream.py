"""Images written in LitData's format, and read back from a folder and from what LitData takes for a store."""

import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet.data import ImageDataModule, streaming
from alexnet.data.loader import EpochSampler, ShardedBatchSampler
from alexnet.data.packed import FORMAT
from alexnet.data.streaming import write_stream
from alexnet.errors import UserError
from tests.conftest import digits, quick, slow, train_py
from tests.training.test_resume import ENV, RUN, assert_same

litdata = pytest.importorskip("litdata")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "CHUNK_BYTES", 50_000)


def source(**arguments: Any) -> ImageDataModule:
    data = ImageDataModule("fake", **{"size": 24, "crop": 20, "num_classes": 7, "num_workers": 0} | arguments)
    data.setup()
    return data


def written(data: ImageDataModule, folder: Path, jpeg: int | None = None) -> ImageDataModule:
    """The stream of these images, opened."""
    assert data.packed
    write_stream(data.packed, data.splits, folder, jpeg)
    return opened(str(folder), size=data.size, crop=data.crop, channels=data.channels)


def opened(root: str, **arguments: Any) -> ImageDataModule:
    data = ImageDataModule("stream", root, **{"size": 24, "crop": 20, "num_workers": 0} | arguments)
    data.setup()
    return data


def named(data: ImageDataModule, split: str) -> dict[str, tuple[int, bytes]]:
    """By name, the class and the pixels of each image."""
    assert data.packed
    stored = data.packed.splits[split]
    pixels = [stored.images[row].tobytes() for row in stored.rows.tolist()]
    return dict(zip(data.packed.names[split], zip(stored.labels.tolist(), pixels, strict=True), strict=True))


@pytest.fixture(params=["folder", "store"])
def place(request: pytest.FixtureRequest) -> str:
    return {"folder": "", "store": "local:"}[request.param]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_is_there_under_its_name_and_class(place: str, channels: int, tmp_path: Path) -> None:
    data = source(channels=channels)
    written(data, tmp_path / "s")
    read = opened(f"{place}{tmp_path}/s", channels=channels, cache_dir=str(tmp_path / "cache"))
    for split in ("train", "val", "test"):
        assert named(read, split) == named(data, split)
    assert read.info.classes == data.info.classes
    assert torch.equal(read.normalize.mean, data.normalize.mean)
    assert torch.equal(read.normalize.std, data.normalize.std)
    assert read.info.fingerprint != data.info.fingerprint, "training images are in another order"
    order = read.packed.splits["train"].labels.tolist()
    assert order != sorted(order)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["s", *(["cache"] if place else [])])


def test_it_is_litdatas_own_format(tmp_path: Path) -> None:
    data = source()
    written(data, tmp_path / "plain")
    written(data, tmp_path / "jpeg", jpeg=95)
    for split, first in (("train", 0), ("val", 512)):
        pixels = {(label, content) for label, content in named(data, split).values()}
        sample = litdata.StreamingDataset(str(tmp_path / "plain"))[first]
        assert (sample["label"], sample["image"].tobytes()) in pixels
    jpeg = litdata.StreamingDataset(str(tmp_path / "jpeg"))
    assert len(jpeg) == 512 + 128 + 128
    read = opened(str(tmp_path / "jpeg"))
    for row in (0, 300, 700):
        image = np.asarray(Image.open(io.BytesIO(jpeg[row]["image"])))
        assert np.abs(image.astype(int) - read.splits["train"].images[row]).max() <= 3  # two decoders
        assert np.abs(image.astype(int) - opened(str(tmp_path / "plain")).splits["train"].images[row]).mean() < 8


def test_jpegs_have_a_fingerprint_of_their_own_and_the_same_twice(tmp_path: Path) -> None:
    data = source()
    marks = [written(data, tmp_path / f"{i}", jpeg).info.fingerprint for i, jpeg in enumerate((None, None, 95, 95, 30))]
    assert marks[0] == marks[1]
    assert marks[2] == marks[3]
    assert len(set(marks)) == 3


def test_a_share_of_the_training_images_is_written(tmp_path: Path) -> None:
    data = source(fraction=0.25)
    read = written(data, tmp_path / "s")
    kept = {data.packed.names["train"][row] for row in data.splits["train"].rows}
    assert named(read, "train") == {name: named(data, "train")[name] for name in kept}
    assert len(read.splits["val"]) == 128


def batches(data: ImageDataModule, epoch: int = 0) -> list[tuple[torch.Tensor, ...]]:
    loader = data.train_dataloader()
    loader.batch_sampler.sampler.set_epoch(epoch)
    return [tuple(part.clone() for part in batch) for batch in loader]


def equal(a: list[tuple[torch.Tensor, ...]], b: list[tuple[torch.Tensor, ...]]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)
    )


def test_batches_are_the_same_from_anywhere_and_however_many_read_them(tmp_path: Path) -> None:
    plain = written(source(), tmp_path / "s")
    for data in (
        opened(str(tmp_path / "s"), num_workers=2),
        opened(f"local:{tmp_path}/s", num_workers=2, cache_dir=str(tmp_path / "cache")),
        opened(f"local:{tmp_path}/s", cache_dir=str(tmp_path / "cache")),
    ):
        for epoch in (0, 3):
            assert equal(batches(data, epoch), batches(plain, epoch))
    assert not equal(batches(plain, 0), batches(plain, 1))
    assert not equal(batches(plain), batches(opened(str(tmp_path / "s"), seed=1)))
    rest = opened(str(tmp_path / "s"), num_workers=1)
    rest.resume_position = (2, 3)
    assert equal(batches(rest, 2), batches(plain, 2)[3:])


def test_a_chunk_is_read_to_its_end_before_the_next() -> None:
    """And every sample once, among any number of ranks."""
    draw = np.random.default_rng(0)
    for _ in range(20):
        chunks = np.repeat(np.arange(draw.integers(1, 9)), draw.integers(1, 30))
        chunks = chunks[draw.random(len(chunks)) < 0.8] if len(chunks) > 20 else chunks
        sampler = EpochSampler(len(chunks), 3, shuffle=True, chunks=chunks)
        orders = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            order = [i for _, i in sampler]
            assert sorted(order) == list(range(len(chunks)))
            assert np.count_nonzero(np.diff(chunks[order])) == len(set(chunks.tolist())) - 1
            orders.append(order)
        assert len(chunks) < 8 or orders[0] != orders[1]
        ranks = int(draw.integers(1, 5))
        shares = [list(ShardedBatchSampler(sampler, 6, rank, ranks)) for rank in range(ranks)]
        assert sorted(i for share in shares for batch in share for _, i in batch) == list(range(len(chunks)))


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="its workers are not forked, and do not see the patch")
def test_a_full_disk_keeps_the_chunks_that_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = written(source(), tmp_path / "s")
    monkeypatch.setattr(streaming, "KEEP_FREE", 1.0)
    assert len(list((tmp_path / "s").glob("*.bin"))) > 15
    data = opened(f"local:{tmp_path}/s", num_workers=2, cache_dir=str(tmp_path / "cache"))
    for epoch in range(3):
        assert equal(batches(data, epoch), batches(plain, epoch))
        assert len(list((tmp_path / "cache").rglob("*.bin"))) <= streaming.KEEP_CHUNKS + 2  # one more for each worker


def test_what_has_been_written_anew_is_fetched_anew(tmp_path: Path) -> None:
    written(source(), tmp_path / "s")
    opened(f"local:{tmp_path}/s", cache_dir=str(tmp_path / "cache")).splits["train"].images[0]
    (tmp_path / "s").rename(tmp_path / "old")
    data = source(num_classes=3)
    written(data, tmp_path / "s")
    assert named(opened(f"local:{tmp_path}/s", cache_dir=str(tmp_path / "cache")), "val") == named(data, "val")


def test_a_reader_of_its_own_in_every_process(tmp_path: Path) -> None:
    images = written(source(), tmp_path / "s").splits["train"]
    first = images.images[5]
    assert np.array_equal(pickle.loads(pickle.dumps(images)).images[5], first)
    assert images.images[5, 2:9, 3:].shape == (7, 21, 3)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    written(source(), tmp_path / "s")
    return tmp_path / "s"


def test_mistakes_are_one_line(damaged: Path, tmp_path: Path) -> None:
    def refused(root: str = str(damaged), **arguments: Any) -> str:
        with pytest.raises(ValueError, match=r".") as caught:
            opened(root, **{"cache_dir": str(tmp_path / "cache")} | arguments)
        return str(caught.value)

    assert "size=32, channels=3: images of this stream have 24 and 3" in refused(size=32)
    assert "num_classes=3: stream has 7; leave it empty" in refused(num_classes=3)
    assert "no stream lies there; python prepare.py data=SOURCE stream=FOLDER writes one" in refused(str(tmp_path))
    assert "cannot be read" in refused(f"local:{tmp_path}/none")
    chunk = damaged / "chunk-0-3.bin"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:-1])
    assert "chunk-0-3.bin is missing or too short; copy it again" in refused()
    chunk.unlink()
    assert "chunk-0-3.bin is missing or too short; copy it again" in refused()
    data = opened(f"local:{damaged}", cache_dir=str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"data.root=local:.*: cannot read image \d+: "):
        batches(data)
    chunk.write_bytes(content)
    info = (damaged / "about.json").read_text()
    (damaged / "about.json").write_text(info.replace(f'"format": {FORMAT}', '"format": 2'))
    assert f"written by another version (format 2, not {FORMAT}): write it again" in refused()
    (damaged / "about.json").write_text("[")
    assert "its files are damaged" in refused()


def test_samples_that_would_be_unpickled_are_refused(damaged: Path, tmp_path: Path) -> None:
    path = damaged / "index.json"
    index = json.loads(path.read_text())
    index["config"]["data_format"] = ["pickle", "int"]
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"samples of \['pickle', 'int'\] are not read"):
        opened(str(damaged))
    index["config"]["data_format"] = ["numpy", "int"]
    index["chunks"][0]["filename"] = "../chunk-0-0.bin"
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"a chunk called ../chunk-0-0.bin is not in its folder"):
        opened(str(damaged))


@slow
@digits
def test_written_by_prepare_and_read_by_a_run_of_two_ranks_that_is_killed(tmp_path: Path) -> None:
    where = ("data.size=80", "data.crop=67")
    said = quick("prepare.py", "data=digits", *where, f"stream={tmp_path}/s").stdout
    assert f"for data=stream data.root={tmp_path}/s" in said
    line = (*RUN, "data=stream", f"data.root={tmp_path}/s", *where, "data.channels=1", "trainer.devices=2")
    train_py(*line, f"run_dir={tmp_path}/whole", **ENV)
    train_py(*line, f"run_dir={tmp_path}/run", code=None, KILL="on_train_batch_end:15", **ENV)
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert "resumes after epoch 1 and 3 batches" in train_py(f"resume={tmp_path}/run", **ENV).stdout
    assert_same(tmp_path / "run", tmp_path / "whole")


@slow
def test_what_prepare_refuses(tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        return quick("prepare.py", "data=fake", "data.size=24", "data.crop=20", *arguments, code=1).stderr

    assert f"stream={tmp_path}: is there already; name another, or delete it" in refused(f"stream={tmp_path}")
    assert "stream=s3://pictures: must be a folder here" in refused("stream=s3://pictures")
    assert "stream=3: must be the path of a new folder" in refused("stream=3")
    assert "jpeg=0: must be " in refused("jpeg=0", f"stream={tmp_path}/s")
    assert "jpeg=90: is of a stream; pass stream=FOLDER too" in refused("jpeg=90")
    assert not list(tmp_path.iterdir())
    file = tmp_path / "file"
    file.write_text("")
    assert "cannot be written" in refused(f"stream={file}/s")
    assert list(tmp_path.iterdir()) == [file]
