"""Compares train.py as a whole with a plain script, and its training loop with a bare one."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict
from PIL import Image
from torch.nn.functional import cross_entropy

from alexnet.benchmarks import script
from alexnet.benchmarks.limits import wait
from alexnet.benchmarks.measure import Row, compare
from alexnet.training.build import Components, build_components
from alexnet.training.fit import fit
from alexnet.training.logging import run_logging, silence_lightning
from alexnet.training.optim import make_schedule

ROOT = Path(__file__).parents[3]
STEPS_ALONE = (
    "data=fake",
    "trainer.limit_val_batches=0",
    "trainer.limit_test_batches=0",
    "monitor=train/loss",
    "mode=min",
)
NETWORKS = {
    "alexnet": ("data.batch_size=64", "trainer.max_epochs=1", "trainer.limit_train_batches=10"),
    "lenet": (
        "data.batch_size=128",
        "trainer.max_epochs=3",
        "trainer.limit_train_batches=60",
        "model=lenet",
        "data.channels=1",
        "data.size=32",
        "data.crop=32",
    ),
}


def measure(rounds: int = 3, images: int = 512, width: float = 1.0, steps: int | None = None) -> Iterator[Row]:
    """Yields the rows. images: to train on, and a quarter each for val and test. steps: of each loop's epochs."""
    with tempfile.TemporaryDirectory() as temporary:
        photos = Path(temporary, "photos")
        make_images(photos, images)
        ours = (
            "train.py",
            "data=folder",
            f"data.root={photos}",
            "data.batch_size=64",
            "trainer.max_epochs=1",
            f"data.cache_dir={temporary}/cache",
            f"outputs={temporary}/outputs",
            f"model.width={width}",
        )
        baseline = (script.__file__, str(photos), str(width))
        seen = images + images // 4 * 2
        whole = partial(compare, rounds=rounds, warm=False, seconds=80)
        yield whole("train_vs_script", "images/s", lambda: _whole(seen, *ours), lambda: _whole(seen, *baseline))
    silence_lightning()
    for name, settings in NETWORKS.items():
        settings += (f"trainer.limit_train_batches={steps}",) if steps else ()
        settings += (f"model.width={width}",) if name == "alexnet" else ()
        every = (*STEPS_ALONE, *settings)
        loop = partial(compare, rounds=rounds, timed=True, seconds=30)
        yield loop(f"loop_{name}", "images/s", partial(lightning, every), partial(_bare, every))


def make_images(folder: Path, count: int) -> None:
    """Writes JPEGs of 256x256 in two classes: `images` to train on, and a quarter of that each for val and test."""
    draw = np.random.default_rng(0)
    for split, n in (("train", count), ("val", count // 4), ("test", count // 4)):
        for i in range(n):
            path = folder / split / f"class{i % 2}" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            coarse.resize((256, 256)).save(path)


def _whole(images: int, *command: str) -> int:
    """Runs a program from start to end, and returns the number of images that it trained and tested on."""
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr}")
    return images


def lightning(overrides: tuple[str, ...]) -> float:
    """Returns the images per second of the training steps of a run with its loggers, callbacks and metrics."""
    with tempfile.TemporaryDirectory() as folder:
        cfg, components = _components(*overrides, f"run_dir={folder}", f"outputs={folder}")
        with run_logging(Path(folder), shown=False):
            return float(fit(cfg, components)["images_per_second"])


def _bare(overrides: tuple[str, ...]) -> float:
    """Makes the same steps on the same batches in plain PyTorch, and returns the images per second.

    The loop has the schedule, and the epoch's loss and accuracy.
    """
    cfg, components = _components(*overrides)
    data, device = components.data, components.trainer.strategy.root_device
    half = torch.bfloat16 if cfg.trainer.precision == "bf16-mixed" else None
    network = components.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = components.optimizer(network)
    steps = cfg.trainer.limit_train_batches
    schedule: Any = make_schedule(
        components.scheduler, optimizer, steps, steps * cfg.trainer.max_epochs, cfg.monitor, cfg.mode
    )
    loader = data.train_dataloader()
    images, seconds = 0, 0.0
    network.train()
    for epoch in range(cfg.trainer.max_epochs):
        total, right, n = torch.zeros((), device=device), torch.zeros((), device=device), 0
        begin = time.perf_counter()
        for x, y, rand in loader:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            x = data.preprocess(x, rand, half or torch.float32, epoch)
            with torch.autocast(device.type, half, enabled=half is not None):
                logits = network(x)
            loss = cross_entropy(logits.float(), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule["scheduler"].step()
            total += loss.detach() * len(y)
            right += (logits.argmax(1) == y).sum()
            n += len(y)
            if n == steps * data.batch_size:
                break
        wait(device)
        images, seconds = images + n, seconds + time.perf_counter() - begin
    return images / seconds


def _components(*overrides: str) -> tuple[DictConfig, Components]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", list(overrides), return_hydra_config=True)
    with open_dict(cfg):
        del cfg["hydra"]
    components = build_components(cfg)
    components.data.setup()
    train = components.data.splits["train"]  # over and over
    many = cfg.trainer.limit_train_batches * cfg.data.batch_size
    components.data.splits["train"] = train.take(np.arange(many) % len(train))
    return cfg, components
