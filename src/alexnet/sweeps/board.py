"""Writes a study to TensorBoard, in its own directory: its looks as curves, its report as text and images."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from alexnet.study.metrics import Metric
from alexnet.study.report import PAGE
from alexnet.study.sequential import Look

FIGURE = re.compile(r"!\[(.*)\]\((\w+\.png)\)\n*")  # of the page: its text, and its file


def log_looks(folder: Path, looks: Sequence[Look], metric: Metric) -> None:
    """Writes the mean difference of every arm and both ends of its interval, by the number of pairs."""
    with SummaryWriter(folder) as writer:
        for look in looks:
            for row in look.found.rows:
                ends = {"difference": row.change, "low": row.change - row.half, "high": row.change + row.half}
                for name, value in ends.items():
                    writer.add_scalar(f"looks {row.arm}/{name}", metric.scale * value, look.pairs)


def log_report(folder: Path) -> None:
    """Writes the report in a folder as text, and its figures as images, by the number of finished runs."""
    page = (folder / PAGE).read_text(encoding="utf-8")
    runs = len(list(folder.glob("*/metrics.json")))
    with SummaryWriter(folder) as writer:
        writer.add_text("report", FIGURE.sub("", page), runs)
        for _, name in FIGURE.findall(page):
            pixels = np.asarray(Image.open(folder / name).convert("RGB"))
            writer.add_image(f"report/{Path(name).stem}", pixels, runs, dataformats="HWC")
