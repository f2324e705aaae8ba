"""Predicts images of the user: classes and the most similar training images, labels, or numbers."""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alexnet.config_errors import prefix_errors
from alexnet.data.decode import check_background, check_value_range
from alexnet.data.sources.folder import Reading
from alexnet.data.sources.labels import class_of_folder
from alexnet.data.splits import CLASS, NUMBERS
from alexnet.data.transforms import multi_crop
from alexnet.errors import UserError, escape_control_chars, truncate
from alexnet.inference.files import batches, named_files
from alexnet.inference.neighbours import nearest
from alexnet.inference.out import check_new
from alexnet.inference.prediction import Prediction
from alexnet.inference.trained import TrainedModel, load_run, make_task
from alexnet.models.features import capture_features
from alexnet.training.module import ImageModule
from alexnet.validation import check_int

FIGURES = (".png", ".svg", ".pdf")
SHOWN = 40  # images in a figure
ALIKE = 6  # training images of each, as in the paper


def predict(
    run: Path,
    images: Sequence[str],
    top: int = 5,
    asked: Mapping[str, Any] | None = None,
    out: Path | None = None,
    *,
    neighbours: bool = False,
    as_json: bool = False,
    force: bool = False,
) -> tuple[str, list[str]]:
    """Returns the text to print, and messages on the images that cannot be read; the others are predicted.

    Args:
        run: a run's folder or a checkpoint.
        images: files, folders, and - for a list on standard input.
        top: classes of each image.
        asked: what TrainedModel.images takes, to find the training images, and `trusted`, see checkpoint.load.
        out: a figure, as the paper's Figure 4.
        neighbours: the training images most alike, too.
        as_json: JSON in place of the table.
        force: the figure is replaced if it is there.

    Raises:
        UserError: before an image is read, for what does not suit; and where none can be read.
    """
    with prefix_errors(""):
        check_int("top", top, 1, 1000)
    if out:
        check_new(out, FIGURES, force=force)
    files, problems = named_files(images)
    if not files:
        raise UserError("; ".join(problems) or "no images: name files, folders, or - for a list on standard input")
    asked = dict(asked or {})
    trained = load_run(run, asked.pop("trusted", ()))
    kind, task = trained.kind, make_task(trained)
    if kind != CLASS and (neighbours or out):
        raise UserError(f"{run}: --neighbours and --out are of classes, and this run has {kind}")
    reading = _reading(trained, asked)
    data = trained.images(asked) if neighbours else None
    if data and not data.has("train"):
        raise UserError("data.root: not the images of the run's training, among which --neighbours looks")
    collecting: AbstractContextManager[list[Tensor]] = capture_features(trained.network) if data else nullcontext([])
    with collecting as activations:
        found = _predictions(trained, task, files, top, problems, reading)
    if not found:
        raise UserError("\n".join(problems))
    if data:
        for one, alike in zip(found, nearest(trained, activations, data, ALIKE), strict=True):
            one.nearest = alike
    if out:
        from alexnet.inference import figure4  # matplotlib takes a second

        figure4.draw(out, trained.variant, found[:SHOWN], data)
    info = {"network": trained.variant, "checkpoint": str(trained.file)}
    if as_json:
        rows = [_plain(one, kind) for one in found]
        return json.dumps(info | {"pictures": rows, "errors": problems}, indent=2), problems
    text = f"{trained.variant}\n{trained.file}, epoch {trained.epoch}\n\n{_table(found, kind)}"
    shown = f", of the first {SHOWN}" if len(found) > SHOWN else ""
    return f"{text}\n\nwritten {out}{shown}" if out else text, problems


def _reading(trained: TrainedModel, asked: Mapping[str, Any]) -> Reading:
    """Returns how the images are decoded: as in training, except for what is `asked`."""
    info = trained.info
    with prefix_errors("data"):
        return Reading(
            check_background("background", asked.get("data.background", info.get("background"))),
            check_value_range("value_range", asked.get("data.value_range", info.get("value_range"))),
            info.get("min_side"),
        )


def _predictions(
    trained: TrainedModel,
    task: ImageModule,
    files: Sequence[Path],
    top: int,
    problems: list[str],
    reading: Reading,
) -> list[Prediction]:
    info, found = trained.info, list[Prediction]()
    classes = info["classes"]
    folders = {file.absolute().parent for file in files} if task.kind == CLASS else set()
    true_classes = {folder: class_of_folder(folder, classes) for folder in folders}
    for numbers, stored, broken in batches(files, info["size"], info["channels"], reading):
        problems += broken
        if not numbers:
            continue
        (images,) = multi_crop(stored, info["crop"], 1)
        shares, best = _answers(trained.logits(images), task, top)
        for i, p, labels, image in zip(numbers, shares.tolist(), best.tolist(), images, strict=True):
            true = true_classes.get(files[i].absolute().parent)
            likeliest = [(classes[label], share) for label, share in zip(labels, p, strict=True)]
            shown = image.permute(1, 2, 0).numpy() if len(found) < SHOWN else None
            found.append(Prediction(files[i], true, likeliest, shown))
    return found


def _answers(outputs: Tensor, task: ImageModule, top: int) -> tuple[Tensor, Tensor]:
    """Returns what is shown of outputs (N, num_classes): values and the outputs' numbers, each (N, shown).

    Of classes the likeliest, by softmax; of labels the likeliest, by sigmoid; of numbers all.
    """
    if task.kind == NUMBERS:
        numbers, _ = task.metric_inputs(outputs, outputs)
        return numbers, torch.arange(outputs.shape[1]).expand(len(outputs), -1)
    shares = outputs.softmax(1) if task.kind == CLASS else outputs.sigmoid()
    values, places = shares.topk(min(top, outputs.shape[1]))
    return values, places


def _table(predictions: Sequence[Prediction], kind: str) -> str:
    """Returns a row for each image, one for its neighbours, and how many are right where the class is known."""
    if kind == NUMBERS:
        return _table_of_numbers(predictions)
    known = [one for one in predictions if one.true is not None]
    rows = [["image", "is", *map(str, range(1, 1 + len(predictions[0].top)))]]
    for one in predictions:
        best = [f"{share:6.1%} {truncate(name)}" for name, share in one.top]
        rows.append([str(one.file), truncate(one.true or ""), *best])
    if not known:
        rows = [[row[0], *row[2:]] for row in rows]
    lines = _padded(rows)
    if predictions[0].nearest:
        lines += ["", "the training images most alike, by the distance of the last hidden layer's activations"]
        for one in predictions:
            alike = (f"{truncate(n['class'])} {n['name']} ({n['distance']:.4g})" for n in one.nearest)
            lines.append(escape_control_chars(f"{one.file}: {', '.join(alike)}"))
    if known:
        right = sum(one.true == one.top[0][0] for one in known)
        lines += ["", f"right: {right} of {len(known)} whose folder is named after a class"]
    return "\n".join(lines)


def _table_of_numbers(predictions: Sequence[Prediction]) -> str:
    rows = [["image", *(name for name, _ in predictions[0].top)]]
    for one in predictions:
        rows.append([str(one.file), *(f"{value:.4g}" for _, value in one.top)])
    return "\n".join(_padded(rows))


def _padded(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the rows as lines with aligned columns."""
    texts = [list(map(escape_control_chars, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in texts]


def _plain(one: Prediction, kind: str) -> dict[str, Any]:
    """Returns a prediction as plain values for JSON."""
    if kind == NUMBERS:
        return {"picture": str(one.file), "numbers": dict(one.top)}
    top = [{"class": name, "probability": share} for name, share in one.top]
    row: dict[str, Any] = {"picture": str(one.file), "class": one.true, "top": top}
    if one.nearest:
        row["nearest"] = [{"name": n["name"], "class": n["class"], "distance": n["distance"]} for n in one.nearest]
    return row
