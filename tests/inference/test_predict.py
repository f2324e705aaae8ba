"""python predict.py RUN IMAGES...: against float64, by hand."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from alexnet import load
from alexnet.data import ImageDataModule
from alexnet.inference.files import FEW
from alexnet.inference.predict import predict
from tests.conftest import Once, quick, slow


@pytest.fixture(scope="module")
def digits() -> ImageDataModule:
    data = ImageDataModule("digits", channels=1)
    data.setup()
    return data


@pytest.fixture(scope="module")
def tree(once: Once, digits: ImageDataModule) -> Path:
    """Two test images of each of three classes, as files in folders CLASS/."""

    def save(path: Path) -> None:
        stored = digits.splits["test"]
        for label in (7, 3, 5):
            (path / str(label)).mkdir()
            for i in np.flatnonzero(stored.labels == label)[:2]:
                Image.fromarray(stored.images[stored.rows[i], ..., 0]).save(path / str(label) / f"{i}.png")

    return once("tree", save)


def by_hand(run: Path, data: ImageDataModule, files: list[Path]) -> tuple[Tensor, Tensor]:
    """In float64: fc7 (N, D) and the probabilities (N, 10)."""
    stored = np.stack([np.asarray(Image.open(file)) for file in files])[:, None, 14:241, 14:241]
    network, fc7 = load(run).double(), []
    layer: Any = network.get_submodule("classifier.fc8")
    layer.register_forward_pre_hook(lambda _, given: fc7.append(given[0]))
    with torch.no_grad():
        shares = network(
            (torch.from_numpy(stored) / 255.0 - data.normalize.mean) / data.normalize.std.double()
        ).softmax(1)
    return fc7[0], shares


def test_the_likeliest_classes(run: Path, tree: Path, digits: ImageDataModule) -> None:
    said = quick("predict.py", str(run), str(tree), "--json").stdout
    found, files = json.loads(said), sorted(tree.rglob("*.png"))
    assert found["network"].startswith("AlexNet: lrn on, batch norm off, dropout 0.5, groups 2")
    assert [row["picture"] for row in found["pictures"]] == list(map(str, files))
    _, shares = by_hand(run, digits, files)
    for row, file, exact in zip(found["pictures"], files, shares, strict=True):
        assert row["class"] == file.parent.name
        values, labels = exact.topk(5)
        assert [top["class"] for top in row["top"]] == list(map(str, labels.tolist()))
        assert [top["probability"] for top in row["top"]] == pytest.approx(values.tolist(), abs=1e-5)


def test_what_cannot_be_read_is_said_and_the_rest_go_on(run: Path, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("text")
    whole = next((tree / "7").iterdir())
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:300])
    bad = [tmp_path / name for name in ("text.jpg", "none\x1b[31m.jpg", "half.png", "empty")]
    out = tmp_path / "new" / "figure.png"
    done = quick("predict.py", str(run), *map(str, bad), str(whole), "--top=2", f"--out={out}", code=1)
    problems = done.stderr.splitlines()
    assert len(problems) == 4
    for name, why in (("text.jpg", "cannot be read"), ("half.png", "cannot be read"), ("empty", "no images in this")):
        assert any(line.startswith(f"error: {tmp_path}/{name}: {why}") for line in problems)
    assert f"error: {tmp_path}/none\\x1b[31m.jpg: no such file" in problems
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith(str(whole))] == [[str(whole), "7"]]
    assert next(line for line in lines if line.startswith("image")).split() == ["image", "is", "1", "2"]
    assert lines[-1] == f"written {out}"
    assert Image.open(out).format == "PNG"
    done = quick("predict.py", str(run), str(tmp_path / "text.jpg"), f"--out={out}", "--force", code=1)
    assert done.stdout == ""


def test_a_list_on_standard_input(run: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = (sorted(tree.rglob("*.png"))[i] for i in (0, -1))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{last}\n{tree}/5\n"))
    text, problems = predict(run, [str(first), "-"])
    shown = [line.split()[0] for line in text.splitlines() if line.startswith(str(tree))]
    assert shown == [str(first), str(last), *map(str, sorted((tree / "5").iterdir()))]
    assert not problems
    assert "of 4 whose folder is named after a class" in text


def test_many_keep_their_order(run: Path, tree: Path, tmp_path: Path) -> None:
    """Worker processes decode them, in several batches; what cannot be read is left out of its batch."""
    files = sorted(tree.rglob("*.png")) * (FEW // 6 + 2)
    bad = tmp_path / "bad.png"
    bad.write_text("text")
    mixed = [*files[:70], bad, *files[70:], bad]
    text, problems = predict(run, list(map(str, mixed)), as_json=True)
    rows, few = json.loads(text)["pictures"], json.loads(predict(run, list(map(str, files[:6])), as_json=True)[0])
    assert [row["picture"] for row in rows] == list(map(str, files))
    assert len(problems) == 2
    for i, row in enumerate(rows):
        expected = few["pictures"][i % 6]["top"]
        for top, one in zip(row["top"], expected, strict=True):
            assert top["probability"] == pytest.approx(one["probability"], abs=1e-5)


@slow
def test_the_training_images_most_alike(run: Path, tree: Path, digits: ImageDataModule, tmp_path: Path) -> None:
    """By the Euclidean distance of fc7; a training image is most alike itself."""
    train = digits.splits["train"]
    own = tmp_path / "own.png"
    Image.fromarray(train.images[train.rows[321], ..., 0]).save(own)
    files = [own, *sorted(tree.rglob("*.png"))[:3]]
    out = tmp_path / "alike.svg"
    text, _ = predict(run, list(map(str, files)), neighbours=True, as_json=True, out=out)
    assert "<svg" in out.read_text()
    found = [row["nearest"] for row in json.loads(text)["pictures"]]
    assert digits.packed
    assert found[0][0]["name"] == digits.packed.names["train"][321]
    assert found[0][0]["distance"] == pytest.approx(0, abs=1e-3)
    fc7, _ = by_hand(run, digits, files)
    training = tmp_path / "training"
    training.mkdir()
    for i, row in enumerate(train.rows):
        Image.fromarray(train.images[row, ..., 0]).save(training / f"{i:04}.png")
    others, _ = by_hand(run, digits, sorted(training.iterdir()))
    distances = (fc7[:, None] - others[None]).norm(dim=2).sort(1)
    for row, exact, order in zip(found, distances.values, distances.indices, strict=True):
        assert len(row) == 6
        assert [one["distance"] for one in row] == pytest.approx(exact[:6].tolist(), rel=1e-3, abs=1e-3)
        assert [one["class"] for one in row] == [str(train.labels[i]) for i in order[:6].tolist()]


def test_mistakes(run: Path, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "there.png").write_text("mine")
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([f"{tmp_path}/none", str(tree)], "none: no such run or checkpoint"),
        ([str(run), f"{tmp_path}/empty"], "empty: no images in this folder"),
        ([str(run), "data.root=x"], "no images: name files, folders"),
        ([str(run), str(tree), "--top=0"], "top=0: must be a whole number of at least 1"),
        ([str(run), str(tree), f"--out={tmp_path}/there.png"], "there.png: exists already; --force replaces it"),
        ([str(run), str(tree), f"--out={tmp_path}/there.gif"], "there.gif: must end in .png or .svg or .pdf"),
        ([str(run), str(tree), f"--out={tmp_path}/there.png/a.png"], "there.png is no folder"),
        ([str(run), str(tree), "--neighbours", "data.size=9"], "data.size=9: the checkpoint says this itself"),
    ):
        done = quick("predict.py", *arguments, code=1)
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
    assert (tmp_path / "there.png").read_text() == "mine"


def test_a_folder_has_all_that_is_read_when_named_alone(run: Path, tree: Path, tmp_path: Path) -> None:
    image = Image.open(next((tree / "7").iterdir()))
    names = ["a.gif", "b.jfif", "c.ppm", "d.webp", "plain"]
    for name in names:
        kind = {"b.jfif": "JPEG", "plain": "PNG"}.get(name)
        (tmp_path / "new").mkdir(exist_ok=True)
        image.save(tmp_path / "new" / name, kind)
    found = json.loads(quick("predict.py", str(run), str(tmp_path / "new"), "--json").stdout)
    assert [Path(row["picture"]).name for row in found["pictures"]] == names
    (tmp_path / "new" / "x.heic").write_text("x")
    done = quick("predict.py", str(run), str(tmp_path / "new"), "--json", code=1)
    assert len(json.loads(done.stdout)["pictures"]) == len(names)
    assert "1 .heic" in done.stderr


def test_deep_images_need_a_range(run: Path, tmp_path: Path) -> None:
    deep = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(deep).save(tmp_path / "x.png")
    Image.fromarray(deep * 16).save(tmp_path / "full.png")
    line = ("predict.py", str(run), "--json")
    assert "data.value_range" in quick(*line, str(tmp_path / "x.png"), code=1).stderr
    found = [
        json.loads(quick(*line, *arguments).stdout)["pictures"][0]["top"]
        for arguments in ((f"{tmp_path}/full.png",), (f"{tmp_path}/x.png", "data.value_range=4095"))
    ]
    assert found[0][0]["class"] == found[1][0]["class"]
    assert found[0][0]["probability"] == pytest.approx(found[1][0]["probability"], abs=0.02)
