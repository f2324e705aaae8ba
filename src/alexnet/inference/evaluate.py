"""Tests a trained network: the metrics of its run, and those of each class, label or number."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from scipy.stats import binomtest
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

from alexnet.checkpoint import rebuild_loss, rebuild_metrics
from alexnet.config_errors import prefix_errors
from alexnet.data import ImageDataModule
from alexnet.data.splits import CLASS
from alexnet.data.transforms import check_crops, multi_crop
from alexnet.errors import UserError
from alexnet.inference import figures
from alexnet.inference.mistakes import draw_mistakes
from alexnet.inference.out import check_new
from alexnet.inference.trained import TrainedModel, load_run, make_task
from alexnet.io import write_csv, write_json
from alexnet.mistakes import Mistake, worst_of
from alexnet.training.losses import total_loss
from alexnet.training.metrics import DISPLAY
from alexnet.training.module import ImageModule

BINS = 15  # of the calibration error: Guo et al., ICML 2017


def evaluate(path: Path, asked: Mapping[str, Any], out: Path | None = None, *, force: bool = False) -> tuple[Path, str]:
    """Tests the network of a run's folder or checkpoint, and writes evaluation.json, classes.csv and figures.

    Args:
        path: the run's folder, or the checkpoint.
        asked: `crops` (1, 5 or 10, else as in the run; of more than one the mean of the softmax counts), `trusted` (see
            checkpoint.load), and what TrainedModel.images takes.
        out: the folder for the files; None: RUN/evaluation, with what was asked in its name.
        force: files that are there already are replaced.

    Returns:
        The folder, and what to print.

    Raises:
        UserError: before the test begins, for what does not suit.
    """
    trained = load_run(path, asked.get("trusted", ()))
    metrics, problems = rebuild_metrics(trained.config, trained.trusted)
    loss, loss_problems = rebuild_loss(trained.config, trained.trusted)
    problems += loss_problems
    task = make_task(trained, loss, metrics)
    with prefix_errors(""):
        crops = check_crops("crops", asked.get("crops", trained.crops))
    name = ",".join(["evaluation", *(f"{k}={v}".replace("/", "-") for k, v in asked.items() if k in ("crops", "data"))])
    out = out or trained.folder / name
    check_new(out, force=force)
    data = trained.images({key: value for key, value in asked.items() if key not in ("crops", "trusted")}, crops)
    if not data.has("test"):
        raise UserError(f"{path}: its data have no test images")
    scores, labels, figures_of_all, mistakes = _test(trained, data, task)
    if task.kind == CLASS:
        found = _measured(data, scores, labels)
    else:
        from alexnet.inference.outputs import (  # scikit-learn takes 0.3 s
            draw_outputs,
            lines_of_outputs,
            measure_outputs,
        )

        found = measure_outputs(task, data.info.classes, scores, labels)
    found["test"] = figures_of_all
    info = {
        "network": trained.variant,
        "checkpoint": os.path.relpath(trained.file, trained.folder),
        "epoch": trained.epoch,
        "crops": crops,
        "data": {"source": data.source, "fingerprint": data.info.fingerprint, "pictures": len(labels)},
    }
    before = _in_training(trained, asked, crops, figures_of_all)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "evaluation.json", info | found | ({} if before is None else {"as_in_training": before}))
    if task.kind == CLASS:
        write_csv(out / "classes.csv", list(found["classes"][0]), found["classes"])
        figures.draw(out, trained.variant, data.info.classes, np.array(found["confusion"]), found["calibration"])
        for kind in ("png", "svg"):  # of an evaluation that is replaced
            (out / f"mistakes.{kind}").unlink(missing_ok=True)
        if mistakes:
            draw_mistakes(out / "mistakes", trained.variant, data.info.classes, mistakes)
        lines = _lines_of_classes(data, found)
    else:
        write_csv(out / "outputs.csv", list(found["outputs"][0]), found["outputs"])
        draw_outputs(out, trained.variant, task, found["outputs"], scores, labels)
        lines = lines_of_outputs(found)
    text = _text(trained, data, crops, len(labels), found, before=before, problems=problems, lines_of_task=lines)
    return out, text


def _test(
    trained: TrainedModel, data: ImageDataModule, task: ImageModule
) -> tuple[Tensor, Tensor, dict[str, float], list[Mistake]]:
    """Runs the network on the test images.

    Returns:
        Its outputs (N, num_classes), of several crops as the task merges them; labels; the figures that a run's own
        test has, computed by the same means; and the worst mistakes, of classes.
    """
    task.to(next(trained.network.parameters()).device)
    counted, mean = task.test_metrics, task.test_loss
    all_scores, all_labels, mistakes = [], [], list[Mistake]()
    for images, batch_labels in _batches(data):
        labels = batch_labels.to(task.device)
        scores = task.merge_views([trained.logits(view) for view in multi_crop(images, data.crop, data.crops)])
        mean.update(total_loss(task.loss, *task.loss_inputs(scores, labels)), len(labels))
        counted.update(*task.metric_inputs(scores, labels))
        if task.kind == CLASS:
            (centre,) = multi_crop(images, data.crop, 1)
            mistakes = worst_of(mistakes, centre, scores, labels)
        all_scores.append(scores.cpu())
        all_labels.append(batch_labels)
    figures_of_all = {"loss": mean.compute().item()}
    figures_of_all |= {name.removeprefix("test/"): value.item() for name, value in counted.compute().items()}
    task.cpu()
    return torch.cat(all_scores), torch.cat(all_labels), figures_of_all, mistakes


def _batches(data: ImageDataModule) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields uint8 images and their labels: cut to the centre, or whole where there are several windows."""
    loader: Any = data.test_dataloader()
    for images, labels, _ in track(loader, "testing", disable=len(loader.dataset) < 2000, transient=True):
        yield images, labels


def _measured(data: ImageDataModule, scores: Tensor, labels: Tensor) -> dict[str, Any]:
    shares = scores.softmax(1)
    confidence, predicted = shares.max(1)
    correct = predicted == labels
    confusion = multiclass_confusion_matrix(predicted, labels, data.num_classes).numpy()
    wilson = binomtest(int(correct.sum()), len(labels)).proportion_ci(0.95, "wilson")
    error = multiclass_calibration_error(shares, labels, data.num_classes, n_bins=BINS, norm="l1").item()
    return {
        "top1_interval": [float(wilson.low), float(wilson.high)],
        "calibration": {"error": error, "bins": _bins(confidence.numpy(), correct.numpy())},
        "classes": _by_class(data.info.classes, confusion),
        "confusion": confusion.tolist(),
    }


def _bins(confidence: NDArray[np.float32], correct: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Returns the bins of a reliability diagram that hold images.

    sure and right are confidence and accuracy under the names of earlier versions.
    """
    bin_of = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = []
    for inside in (bin_of == i for i in range(BINS)):
        if inside.any():
            mean, accuracy = float(confidence[inside].mean()), float(correct[inside].mean())
            count = int(inside.sum())
            bins.append({"pictures": count, "confidence": mean, "accuracy": accuracy, "sure": mean, "right": accuracy})
    return bins


def _by_class(names: list[str], confusion: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Returns accuracy (recall) and precision of every class; None where there is no image to count.

    right is accuracy under the name of earlier versions.
    """
    rows, columns, hits = confusion.sum(1).tolist(), confusion.sum(0).tolist(), confusion.diagonal().tolist()
    classes = []
    for name, row, column, hit in zip(names, rows, columns, hits, strict=True):
        accuracy = hit / row if row else None
        precision = hit / column if column else None
        classes.append(
            {"class": name, "pictures": row, "accuracy": accuracy, "precision": precision, "right": accuracy}
        )
    return classes


def _in_training(
    trained: TrainedModel, asked: Mapping[str, Any], crops: int, figures_of_all: Mapping[str, float]
) -> bool | None:
    """Returns whether the run's own test found the same; None where it tested something else, or is missing."""
    whole = trained.config["trainer"]["limit_test_batches"] == 1.0
    before = trained.metrics.get("test")
    if (
        crops != trained.crops
        or asked.keys() & {"data", "data.root"}
        or not whole
        or not before
        or trained.file.name != "best.ckpt"
    ):
        return None
    return all(before.get(key) == value for key, value in figures_of_all.items())


def _text(
    trained: TrainedModel,
    data: ImageDataModule,
    crops: int,
    n: int,
    found: Mapping[str, Any],
    *,
    before: bool | None,
    problems: Sequence[str],
    lines_of_task: Sequence[str],
) -> str:
    """Returns what to print. lines_of_task: of each class, label or number."""
    lines = [
        trained.variant,
        f"{trained.file}, epoch {trained.epoch}",
        f"{n:,} test images of {data.source}, {crops} crop{'s' * (crops > 1)}",
        *(f"data: {note}" for note in data.notes),
        "",
        *_lines_of_metrics(found["test"], found),
        *problems,
    ]
    if "calibration" in found:
        lines.append(f"calibration     {found['calibration']['error']:.4f} expected calibration error, {BINS} bins")
    if before is not None:
        same = "the same figures as" if before else "not the figures of"
        lines.append(f"                {same} the run's own test")
    return "\n".join([*lines, *lines_of_task])


def _lines_of_metrics(figures_of_all: Mapping[str, float], found: Mapping[str, Any]) -> list[str]:
    """Returns a line for each metric, with its interval where it has one; the loss after the accuracies."""
    names = sorted(figures_of_all, key=lambda name: (name not in DISPLAY, name != "loss"))
    lines = []
    for name in names:
        shown = f"{DISPLAY[name]} accuracy" if name in DISPLAY else name
        line = f"{shown:15} {figures_of_all[name]:.4f}"
        if f"{name}_interval" in found:
            low, high = found[f"{name}_interval"]
            line += f", from {low:.4f} to {high:.4f} with other such images (95%)"
        lines.append(line)
    return lines


def _lines_of_classes(data: ImageDataModule, found: Mapping[str, Any]) -> list[str]:
    shown = sorted(found["classes"], key=lambda row: (row["accuracy"] is None, row["accuracy"]))[:10]
    lines = ["", f"{'class':24}{'images':>10}{'accuracy':>10}{'precision':>11}"]
    lines += [
        f"{row['class'][:23]:24}{row['pictures']:10,}{_share(row['accuracy']):>10}{_share(row['precision']):>11}"
        for row in shown
    ]
    if len(found["classes"]) > len(shown):
        lines.append(
            f"the {len(shown)} of {len(found['classes'])} classes with the lowest accuracy; classes.csv has all"
        )
    confusion = np.array(found["confusion"])
    np.fill_diagonal(confusion, 0)
    names = data.info.classes
    worst = sorted(zip(*np.nonzero(confusion), strict=True), key=lambda place: -confusion[place])[:3]
    if worst:
        pairs = (f"{names[a]} as {names[b]} ({confusion[a, b]})" for a, b in worst)
        lines += ["", f"most often confused: {', '.join(pairs)}"]
    return lines


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
