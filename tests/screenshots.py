"""Makes the images of docs/ again: make screenshots.

Needs Chromium. Trains the default run and model.lrn=false, some minutes each, where outputs/screenshots has them not.
"""

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alexnet.data import ImageDataModule
from tests.conftest import tensorboard

DOCS = Path("docs")
RUNS = Path("outputs/screenshots")
DEFAULT = RUNS / "model.lrn=true"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PANELS = ("val/confusion_matrix", "val/per_class_accuracy", "val/top_losses", "train/augmented", "conv1_filters")
SHOWN = 350  # pixels of a panel's width in TensorBoard
CURVES = "tagFilter=%5E(train%7Cval)%2F(loss%7Ctop1)%24&smoothing=0"


def python(*arguments: str) -> None:
    """Runs a program of the repository."""
    subprocess.run([sys.executable, *arguments], check=True)


def screenshot(address: str, file: Path, width: int, height: int, *, webgl: bool = False) -> None:
    """Writes a page as a browser shows it once it has been still for some time.

    Without WebGL, TensorBoard draws curves as SVG; with it some are not there yet when a page is still.
    """
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory() as profile:
        graphics = "--enable-unsafe-swiftshader" if webgl else "--disable-3d-apis"
        look = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", graphics]
        look += ["--hide-scrollbars", f"--window-size={width},{height}", "--virtual-time-budget=60000"]
        look += [f"--user-data-dir={profile}", "--disable-background-networking", f"--screenshot={file}", address]
        subprocess.run(look, check=True, timeout=300, stderr=subprocess.DEVNULL)


def panels(run: Path, file: Path) -> None:
    """Writes the panels side by side, as wide as TensorBoard shows them."""
    board = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    shown = []
    for tag in PANELS:
        image = Image.open(io.BytesIO(board.Images(tag)[-1].encoded_image_string)).convert("RGB")
        shown.append(image.resize((SHOWN, round(image.height * SHOWN / image.width)), Image.Resampling.LANCZOS))
    columns = [shown[:2], shown[2:3], shown[3:4], shown[4:]]
    gap = 20
    heights = [sum(image.height + gap for image in column) for column in columns]
    sheet = Image.new("RGB", (len(columns) * (SHOWN + gap), max(heights)), "white")
    for place, column in enumerate(columns):
        top = 0
        for image in column:
            sheet.paste(image, (place * (SHOWN + gap), top))
            top += image.height + gap
    sheet.save(file)


def predictions(run: Path, file: Path) -> None:
    """Writes what predict.py draws of two test images that the run has right and two that it has wrong."""
    data = ImageDataModule("digits", channels=1)
    data.setup()
    test = data.splits["test"]
    with np.load(run / "test_right.npz") as bits:
        right = np.unpackbits(bits["top1"], count=int(bits["pictures"])).astype(bool)
    chosen = [*np.flatnonzero(right)[:2], *np.flatnonzero(~right)[:2]]
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for index in chosen:
            path = Path(folder, data.info.classes[test.labels[index]], f"{index}.png")  # so its true class is known
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(test.images[test.rows[index], :, :, 0]).save(path)
            files.append(str(path))
        python("predict.py", str(run), *files, "--out", str(file), "--neighbours", "--force")
    image = Image.open(file).convert("RGB")
    image.resize((1200, round(image.height * 1200 / image.width)), Image.Resampling.LANCZOS).save(file, optimize=True)


def main() -> None:
    """Writes tensorboard.png, panels.png, projector.png and predictions.png."""
    if CHROMIUM is None:
        sys.exit("error: needs Chromium, such as Debian's package chromium")
    for lrn in ("true", "false"):
        python("train.py", f"model.lrn={lrn}", f"run_dir={RUNS}/model.lrn={lrn}", "resume=auto")
    with tensorboard(f"--logdir={RUNS}", "--load_fast=false") as address:
        screenshot(f"{address}?{CURVES}#timeseries", DOCS / "tensorboard.png", 1400, 1050)
    with tensorboard(f"--logdir={DEFAULT}", "--load_fast=false") as address:
        screenshot(f"{address}#projector", DOCS / "projector.png", 1200, 800, webgl=True)
    panels(DEFAULT, DOCS / "panels.png")
    predictions(DEFAULT, DOCS / "predictions.png")


if __name__ == "__main__":
    main()
