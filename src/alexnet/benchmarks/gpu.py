"""Measures AlexNet on a GPU: the step, LRN's share of it, a run from packed images, and a forecast for ImageNet."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from alexnet.benchmarks.limits import matmul_rate, wait
from alexnet.benchmarks.measure import Row, compare
from alexnet.benchmarks.step import flops, ours, transcribed
from alexnet.benchmarks.train import lightning, make_images
from alexnet.models import AlexNet
from alexnet.training.logging import silence_lightning

IMAGES, EPOCHS = 1_281_167, 90  # of ImageNet's training set (ILSVRC-2012), and of the paper (section 5)


def measure(
    device: torch.device,
    batches: tuple[int, ...] = (128, 1024),
    images: int = 20_480,
    width: float = 1.0,
    matrix: int = 8192,
    rounds: int = 3,
    *,
    compiled: bool = True,
) -> Iterator[Row]:
    """Yields rows in bfloat16 for each batch size. images: how many are trained on for each row.

    gpu_step: ours against the layers as PyTorch has them, in bfloat16 too. gpu_lrn: with LRN against without.
    gpu_compile: the whole network compiled against LRN alone. gpu_run: a run of train.py from packed images on disk
    against the step alone. gpu_prefetch: the same against data.prefetch=false. gpu_on_device: with the images on the
    GPU against that run.
    """
    limit = matmul_rate(torch.bfloat16, matrix, device) / flops(AlexNet(width=width))
    silence_lightning()
    with tempfile.TemporaryDirectory() as temporary:
        photos = Path(temporary, "photos")
        make_images(photos, min(images, 1024))
        for batch in batches:
            steps = max(1, images // batch)

            def many(step: Callable[[], int], steps: int = steps) -> Callable[[], int]:
                return partial(_many, step, steps, device)

            mine = many(ours(batch, width, device=device))
            against = partial(compare, unit="images/s", rounds=rounds)
            step = against(
                f"gpu_step_{batch}", ours=mine, baseline=many(transcribed(batch, width, device, half=True)), limit=limit
            )
            yield step
            yield against(
                f"gpu_lrn_{batch}", ours=mine, baseline=many(ours(batch, width, lrn=False, device=device)), limit=limit
            )
            if compiled:
                whole = many(ours(batch, width, device=device, compiled=True))
                yield against(f"gpu_compile_{batch}", ours=whole, baseline=mine, limit=limit)
            run = (
                "data=folder",
                f"data.root={photos}",
                f"data.cache_dir={temporary}/cache",
                f"data.batch_size={batch}",
                f"model.width={width}",
                f"trainer.accelerator={device.type}",
                "trainer.max_epochs=1",
                f"trainer.limit_train_batches={steps}",
                "trainer.limit_val_batches=0",
                "trainer.limit_test_batches=0",
                "monitor=train/loss",
                "mode=min",
            )
            from_disk = partial(lightning, (*run, "data.on_device=false"))
            at_once = partial(lightning, (*run, "data.on_device=false", "data.prefetch=false"))
            # each is a process's whole run, which warms up by itself
            timed = partial(compare, unit="images/s", limit=limit, rounds=min(rounds, 2), timed=True, warm=False)
            yield timed(f"gpu_run_{batch}", ours=from_disk, baseline=partial(float, step.ours))
            yield timed(f"gpu_prefetch_{batch}", ours=from_disk, baseline=at_once)
            yield timed(
                f"gpu_on_device_{batch}", ours=partial(lightning, (*run, "data.on_device=true")), baseline=from_disk
            )


def projection(rows: list[Row]) -> list[str]:
    """Returns how long the paper's training would take at the speed of each run."""
    return [
        f"{row.name.replace('gpu_run_', 'batches of ')}: {EPOCHS} epochs of ImageNet in "
        f"{EPOCHS * IMAGES / row.ours / 3600:.1f} hours; the paper took five to six days on two GTX 580"
        for row in rows
        if row.name.startswith("gpu_run")
    ]


def _many(step: Callable[[], int], count: int, device: torch.device) -> int:
    done = sum(step() for _ in range(count))
    wait(device)
    return done
