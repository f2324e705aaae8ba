"""task=: one class, several labels or numbers for each image, from the CSV file to metrics.json and back."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, r2_score
from torch import nn

from alexnet.data import ImageDataModule
from alexnet.data.mixing import MixUp
from alexnet.data.sources.csv_file import CsvImages
from alexnet.errors import ArgumentError, UserError
from alexnet.training.build import build_components
from alexnet.training.run import train
from alexnet.training.tasks import ImageClassifier, ImageRegressor, MultilabelClassifier
from tests.conftest import ROOT, first, needs, slow, train_py

Config = Callable[..., DictConfig]
pytestmark = needs("model", "lenet")
SMALL = ("data=csv", "data.size=36", "data.crop=32", "model=lenet", "model.activation=relu", "logger=csv")
SMALL += ("augment=none", "data.batch_size=16", "optimizer.lr=0.003", "scheduler=constant", "trainer.precision=32-true")
NUMBERS, LABELS = "task=regression", "task=multilabel"
DRAW = np.random.default_rng(0)


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """colours.csv: 140 images, the mean of their red and of all channels, and which channels are bright."""
    folder = tmp_path_factory.mktemp("colours")
    with (folder / "colours.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "red", "brightness", "bright", "is_red", "is_green"])
        for i in range(140):
            base = DRAW.uniform(0, 255, 3)
            image = DRAW.normal(base, 20, (36, 36, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / f"{i}.png")
            names = [name for name, value in zip(("red", "green", "blue"), base, strict=True) if value > 128]
            means = [image[..., 0].mean(), image.mean()]
            table.writerow([f"{i}.png", *means, ";".join(names), *(int(value > 128) for value in base[:2])])
    return folder / "colours.csv"


def go(config: Config, listed: Path, run_dir: Path, *overrides: str) -> dict[str, Any]:
    """A run's metrics.json."""
    train(config(*SMALL, f"data.root={listed}", f"run_dir={run_dir}", *overrides))
    return json.loads((run_dir / "metrics.json").read_text())


def answers(run_dir: Path, listed: Path, **arguments: Any) -> tuple[np.ndarray, np.ndarray]:
    """Outputs of best.ckpt for the test images, and their labels, in double precision by plain torch."""
    from alexnet import load

    data = ImageDataModule(CsvImages(str(listed), **arguments), size=36, crop=32)
    data.setup()
    network = load(run_dir)
    found, labels = [], []
    with torch.no_grad():
        for images, batch_labels, _ in data.test_dataloader():
            found.append(network(data.preprocess(images)))
            labels.append(batch_labels)
    return torch.cat(found).double().numpy(), torch.cat(labels).double().numpy()


def check_inference(run_dir: Path, listed: Path, test: dict[str, float]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What evaluate.py has of each output, and predict.py of the first image. The test is that of the run."""
    evaluate = pytest.importorskip("alexnet.inference.evaluate").evaluate
    predict = pytest.importorskip("alexnet.inference.predict").predict
    out, _ = evaluate(run_dir, {})
    found = json.loads((out / "evaluation.json").read_text())
    assert found["as_in_training"] is True
    assert found["test"] == test
    assert (out / "outputs.png").is_file()
    with (out / "outputs.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(found["outputs"])
    text, problems = predict(run_dir, [str(listed.parent / "0.png")], as_json=True)
    assert problems == []
    return found["outputs"], json.loads(text)["pictures"][0]


def expected_of(run_dir: Path, listed: Path) -> np.ndarray:
    """The network's outputs for the first image, from its exported file."""
    from alexnet import load

    export = pytest.importorskip("alexnet.inference.export").export
    (file, *_), _ = export(run_dir, "safetensors")
    info = torch.load(run_dir / "checkpoints" / "best.ckpt", weights_only=True)["data"]
    image = torch.from_numpy(np.asarray(Image.open(listed.parent / "0.png"))[2:34, 2:34] / 255).permute(2, 0, 1)
    mean, std = (torch.tensor(info[key], dtype=torch.float64)[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        return load(file)(((image - mean) / std)[None].float())[0].numpy()


@first(1)
@pytest.mark.parametrize("columns", ["brightness", "[red,brightness]"])
def test_regression(columns: str, config: Config, listed: Path, tmp_path: Path) -> None:
    """Metrics are in the numbers' own unit, by an independent reference; every test image's error is kept."""
    metrics = go(config, listed, tmp_path / "run", NUMBERS, f"data.source.label={columns}", "trainer.max_epochs=8")
    outputs, labels = answers(tmp_path / "run", listed, label=columns.strip("[]").split(","), kind="numbers")
    assert labels.max() > 100
    test = metrics["test"]
    assert test["mae"] == pytest.approx(np.abs(outputs - labels).mean(), rel=1e-4)
    assert test["r2"] == pytest.approx(r2_score(labels, outputs), abs=1e-4)
    assert test["r2"] > 0.8, "it learns"
    train_labels = ImageDataModule(
        CsvImages(str(listed), label=columns.strip("[]").split(","), kind="numbers"), size=36, crop=32
    )
    train_labels.setup()
    spread = train_labels.splits["train"].labels.std(0)
    assert test["loss"] == pytest.approx((((outputs - labels) / spread) ** 2).mean(), rel=1e-3)
    kept = np.load(tmp_path / "run" / "test_values.npz")
    assert kept["mae"] == pytest.approx(np.abs(outputs - labels).mean(1), rel=1e-3, abs=1e-3)
    assert metrics["monitor"] == "val/mae"
    rows, answer = check_inference(tmp_path / "run", listed, test)
    assert [row["mae"] for row in rows] == pytest.approx(np.abs(outputs - labels).mean(0), rel=1e-4)
    assert answer["numbers"].keys() == {row["output"] for row in rows}
    assert list(answer["numbers"].values()) == pytest.approx(expected_of(tmp_path / "run", listed), rel=1e-3)


@first(1)
@pytest.mark.parametrize(
    ("label", "names"), [("bright", ["blue", "green", "red"]), ("[is_red,is_green]", ["is_red", "is_green"])]
)
def test_multilabel(label: str, names: list[str], config: Config, listed: Path, tmp_path: Path) -> None:
    """From names in a column, or columns of 0 and 1; metrics by an independent reference."""
    given = ('data.source.separator=";"', f"data.source.label={label}", "trainer.max_epochs=5")
    metrics = go(config, listed, tmp_path / "run", LABELS, *given)
    columns = label.strip("[]").split(",")
    outputs, labels = answers(
        tmp_path / "run", listed, label=columns if len(columns) > 1 else label, kind="labels", separator=";"
    )
    info = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)["data"]
    assert (info["classes"], info["kind"]) == (names, "labels")
    test, right = metrics["test"], (outputs > 0) == labels
    assert test["map"] == pytest.approx(average_precision_score(labels, outputs), abs=1e-4)
    assert test["f1"] == pytest.approx(f1_score(labels, outputs > 0, average="macro"), abs=1e-4)
    assert test["label_accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert np.load(tmp_path / "run" / "test_values.npz")["label_accuracy"] == pytest.approx(right.mean(1), abs=1e-6)
    assert test["map"] > 0.8, "it learns"
    rows, answer = check_inference(tmp_path / "run", listed, test)
    each = [average_precision_score(labels[:, i], outputs[:, i]) for i in range(len(names))]
    assert [row["average_precision"] for row in rows] == pytest.approx(each, abs=1e-4)
    shares = {row["class"]: row["probability"] for row in answer["top"]}
    expected = 1 / (1 + np.exp(-expected_of(tmp_path / "run", listed)))
    assert [shares[name] for name in names] == pytest.approx(expected, rel=1e-3)


def test_windows_of_an_image_are_averaged() -> None:
    views = [torch.from_numpy(DRAW.normal(0, 2, (5, 3))) for _ in range(5)]
    made: Any = MultilabelClassifier(nn.Identity(), None, None, 3)  # type: ignore[arg-type]
    expected = torch.stack(views).sigmoid().mean(0)
    torch.testing.assert_close(made.merge_views(views).sigmoid(), expected)
    assert torch.equal(made.merge_views(views[:1]), views[0])
    numbers: Any = ImageRegressor(nn.Identity(), None, None, 3)  # type: ignore[arg-type]
    torch.testing.assert_close(numbers.merge_views(views), torch.stack(views).mean(0))


def test_numbers_are_mixed_as_they_are(listed: Path) -> None:
    data = ImageDataModule(CsvImages(str(listed), label=["red"], kind="numbers"), size=36, crop=32, mix=MixUp(50.0))
    data.setup()
    for images, labels, rand, partners in data.train_dataloader():
        _, mixed = data.mix_with_partners(data.preprocess(images, rand), labels, rand, partners)
        assert (mixed - (labels + labels[partners]) / 2).abs().max() < 0.3 * (labels.max() - labels.min())
        assert mixed.shape == labels.shape


@slow
@pytest.mark.parametrize(
    "given", [(NUMBERS, "data.source.label=brightness"), (LABELS, "data.source.label=[is_red,is_green]")]
)
def test_two_ranks_learn_what_one_process_learns(given: tuple[str, ...], listed: Path, tmp_path: Path) -> None:
    results = []
    for name, ranks in (("one", ()), ("two", ("trainer.devices=2", "trainer.accelerator=cpu"))):
        train_py(*SMALL, *given, f"data.root={listed}", "trainer.max_epochs=2", f"run_dir={tmp_path / name}", *ranks)
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        results.append((metrics["test"], dict(np.load(tmp_path / name / "test_values.npz"))))
    (one, values), (two, others) = results
    assert one == pytest.approx(two, rel=2e-2, abs=2e-3)
    assert all(others[key] == pytest.approx(values[key], rel=2e-2, abs=1) for key in values)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((NUMBERS, "data=fake"), "task: ImageRegressor is for .* label is numbers, and those of fake have one class"),
        (("data.source.label=red", "data.source.kind=numbers"), "task: ImageClassifier is for .* label is one class"),
        ((NUMBERS, "data.source.label=bright"), "data.source.label=bright: row 2 of .*, and no number"),
        ((LABELS, "data.source.label=[red,is_red]"), "data.source=csv: red of .* must be 0 or 1"),
        ((NUMBERS, "data.source.label=red", "monitor=val/top1"), "monitor=val/top1: must be one of val/loss"),
        ((NUMBERS, "data.source.label=red", "mode=max"), "mode=max: the best val/mae is the minimum"),
        ((NUMBERS, "data.source.label=red", "data.sampler=balanced"), "data.sampler=balanced: is of classes"),
        ((NUMBERS, "data.source.label=red", "loss=cross_entropy"), "loss: CrossEntropy is for images whose label"),
        ((LABELS, "data.source.label=bright", "loss=mse"), "loss: MSELoss is for images whose label is numbers"),
        (("data.source.label=is_red", "loss=mse"), "loss: MSELoss is for images whose label is numbers"),
        (("data.source.label=[is_red,is_green]",), "data.source.label=.*: of one class an image has one column"),
        ((LABELS, "data.source.label=bright", "metrics=f1"), "metrics.f1: every run of MultilabelClassifier has"),
    ],
)  # fmt: skip
def test_mistakes(given: tuple[str, ...], message: str, config: Config, listed: Path) -> None:
    with pytest.raises((UserError, ArgumentError), match=message):
        build_components(config(*SMALL, f"data.root={listed}", *given))


@slow
@pytest.mark.parametrize("given", [(NUMBERS, "data.source.label=red"), (LABELS, "data.source.label=[is_red,is_green]")])
def test_a_run_that_was_killed_within_an_epoch_ends_as_if_it_had_not_been(
    given: tuple[str, ...], listed: Path, tmp_path: Path
) -> None:
    line = (*SMALL, *given, "trainer=exact", f"data.root={listed}", "trainer.max_epochs=2", "checkpoint_every=2")
    line += ("panels=none", "mix=mixup", "+callbacks.kill._target_=tests.training.killer.Kill")
    env = {"PYTHONPATH": str(ROOT)}
    train_py(*line, f"run_dir={tmp_path}/whole", **env)
    train_py(*line, f"run_dir={tmp_path}/run", code=-9, KILL="on_train_batch_end:4", **env)
    assert "resumes after epoch 0 and " in train_py(f"resume={tmp_path}/run", **env).stdout
    whole, run = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "run"))
    assert all(run[split] == whole[split] for split in ("train", "val", "test"))
    assert (tmp_path / "run" / "test_values.npz").read_bytes() == (tmp_path / "whole" / "test_values.npz").read_bytes()


def test_a_study_knows_what_metrics_a_task_has() -> None:
    """It cannot ask the classes: it does not import torch."""
    of_task = pytest.importorskip("alexnet.study_adapter.metrics").OF_TASK
    assert of_task == {
        task.__name__: tuple(task.better) for task in (ImageClassifier, MultilabelClassifier, ImageRegressor)
    }
