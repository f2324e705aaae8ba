"""Describes a trained network by its run's records: model.json for programs, and a model card for people."""

import shlex
from collections.abc import Mapping
from typing import Any

import torch

from alexnet.checkpoint import IMAGE
from alexnet.data.splits import CLASS, NUMBERS
from alexnet.inference.trained import TrainedModel
from alexnet.io import read_json
from alexnet.models.summary import summarize
from alexnet.run_identity import portable_command
from alexnet.training.metrics import DISPLAY


def plain(trained: TrainedModel) -> dict[str, Any]:
    """Returns the content of model.json."""
    info, origin, metrics = trained.info, trained.origin, trained.metrics
    return {
        "network": trained.variant,
        "architecture": {k: v for k, v in trained.config["model"].items() if k not in ("weights", "devices")},
        "classes": info["classes"],
        "input": {
            "channels": info["channels"],
            "resize": info["size"],
            "crop": info["crop"],
            "mean": info["mean"],
            "std": info["std"],
            "mean_image": IMAGE in info,
        },
        "results": {split: metrics[split] for split in ("val", "test") if split in metrics},
        "run": {
            "name": trained.folder.name,
            "checkpoint": trained.file.name,
            "epoch": trained.epoch,
            "seed": trained.config["seed"],
            "started": origin.get("started"),
            "git_commit": origin.get("git_commit"),
            "git_dirty": origin.get("git_dirty"),
            "torch": origin.get("packages", {}).get("torch"),
            "data": info["source"],
            "data_fingerprint": info["fingerprint"],
        },
    }


def text(trained: TrainedModel, info: Mapping[str, Any]) -> str:
    """Returns the content of README.md. It says only what the run's records say."""
    channels, crop, size = (trained.info[key] for key in ("channels", "crop", "size"))
    rows = _rows_of_training(trained, info["run"]) | _rows_of_results(trained)
    table = "\n".join(f"| {key} | {_cell(value)} |" for key, value in rows.items())
    mean, std = (_numbers(info["input"][key]) for key in ("mean", "std"))
    normalised = f"values from 0 to 1, less the mean {mean}, over the standard deviation {std}"
    if IMAGE in trained.info:
        normalised = "values from 0 to 255, less the mean image of the training images (the tensor `mean_image`)"
    outputs = "numbers" if trained.kind == NUMBERS else "logits"
    again = _repeat(trained.origin.get("command") or [])
    return f"""# {trained.config["model"]["_target_"].rpartition(".")[2]} on {info["run"]["data"]}

| | |
|---|---|
{table}

## Input

{"RGB" if channels == 3 else "Grey"} images, the shorter side resized to {size}, then the centre of {crop} x {crop};
{normalised}.

`model.onnx` and `model.pt2` do that last part themselves: they take float32 (N, {channels}, {crop}, {crop}) from 0 to
255, and give {outputs} (N, {len(trained.info["classes"])}), whose names in their
order are `classes` in `model.json`.

## Use

    network = alexnet.load("model.safetensors")          # with the code that it was trained with
    logits = onnxruntime.InferenceSession("model.onnx").run(None, {{"pictures": images}})[0]
    logits = torch.export.load("model.pt2").module()(images)

## Repeat
{again}
Its figures are those of the images above. Of others, from elsewhere or later, they say nothing.
"""


def _rows_of_training(trained: TrainedModel, run: Mapping[str, Any]) -> dict[str, str]:
    """Returns rows on what was trained, on which data and how. run: of `plain`."""
    config, metrics, kind = trained.config, trained.metrics, trained.kind
    channels, crop = trained.info["channels"], trained.info["crop"]
    layers = summarize(trained.network, torch.zeros(1, channels, crop, crop))
    optimizer = ", ".join(f"{k} {v}" for k, v in config["optimizer"].items() if k != "_target_" and v is not None)
    images = ", ".join(f"{n:,} {split}" for split, n in _counts(trained).items()) or "not recorded"
    changed = ", changed since" if run["git_dirty"] else ""
    return {
        "network": trained.variant,
        "parameters": f"{layers.parameters:,}; {layers.flops / 1e9:.3g} GFLOP an image",
        "data": f"{run['data']}: {images}",
        "classes" if kind == CLASS else kind: _shortened(trained.info["classes"]),
        "epoch": f"{trained.epoch} of {metrics.get('epochs', '?')}, the best {metrics.get('monitor', '')}".strip(),
        "optimiser": f"{config['optimizer']['_target_'].rpartition('.')[2]}: {optimizer}",
        "batch": f"{config['data']['batch_size']} images; {config['trainer']['precision']}; seed {config['seed']}",
        "code": f"commit {run['git_commit'] or 'not recorded'}{changed}; torch {run['torch'] or 'not recorded'}",
    }


def _rows_of_results(trained: TrainedModel) -> dict[str, str]:
    """Returns rows of the test metrics, and of an evaluation on the same images."""
    rows: dict[str, str] = {}
    if "test" in trained.metrics:
        n = _counts(trained).get("test")
        figures = ", ".join(f"{DISPLAY.get(name, name)} {v:.4f}" for name, v in trained.metrics["test"].items())
        rows["test"] = f"{figures}{f', of {n:,} images' if n else ''}, {trained.crops} crop{'s' * (trained.crops > 1)}"
    evaluation = read_json(trained.folder / "evaluation" / "evaluation.json")
    if not evaluation.get("as_in_training"):
        return rows
    intervals = {key.removesuffix("_interval"): v for key, v in evaluation.items() if key.endswith("_interval")}
    texts = [f"{DISPLAY.get(name, name)} from {low:.4f} to {high:.4f}" for name, (low, high) in intervals.items()]
    if texts:
        rows["interval"] = f"{', '.join(texts)} with other such images (95%)"
    if "calibration" in evaluation:
        rows["calibration"] = f"{evaluation['calibration']['error']:.4f} expected calibration error"
    return rows


def _counts(trained: TrainedModel) -> dict[str, int]:
    """Returns how many images each split had."""
    counts: dict[str, int] = trained.origin.get("data", {}).get("pictures", {})
    return counts


def _repeat(command: list[str]) -> str:
    """Returns the run's command, without the folders of one machine."""
    kept = portable_command(command)
    return f"\n    python {shlex.join(kept)}\n" if kept else "\nThe command was not recorded.\n"


def _shortened(names: list[str]) -> str:
    return f"{len(names)}: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"


def _numbers(values: list[float]) -> str:
    return f"({', '.join(f'{value:.4f}' for value in values)})"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")
