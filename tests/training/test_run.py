"""Training inside this process: what comes out of a run, whatever went in."""

import csv
import json
import logging
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from alexnet import load
from alexnet.cli import handle_errors
from alexnet.cores import has_bfloat16
from alexnet.data import ImageDataModule
from alexnet.errors import UserError
from alexnet.models import AlexNet
from alexnet.training.build import build_components
from alexnet.training.run import train
from alexnet.training.tasks import ImageClassifier
from tests.conftest import digits, first, needs, slow

Config = Callable[..., DictConfig]
TINY = ("data=fake", "data.size=80", "data.crop=67", "model.width=0.0625", "trainer.max_epochs=1", "logger=none")
TINY += ("trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1")


@pytest.fixture
def run(config: Config, tmp_path: Path) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Trains for TINY and the given overrides: the run's folder and its metrics.json."""

    def go(*overrides: str) -> tuple[Path, dict[str, Any]]:
        cfg = config(*TINY, f"outputs={tmp_path / 'outputs'}", *overrides)
        value = train(cfg)
        folder = Path(cfg.run_dir)
        metrics = json.loads((folder / "metrics.json").read_text())
        split, figure = cfg.monitor.split("/")
        assert value == pytest.approx(metrics[split][figure]), "the sweeper gets the monitored figure"
        return folder, metrics

    return go


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    state = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@first(4)
@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer=sgd", "scheduler=plateau"),
        ("optimizer=adamw", "scheduler=cosine", "augment=light"),
        ("scheduler=step", "augment=none", "data.num_classes=3"),
        ("monitor=val/loss", "mode=min", "early_stopping=0", "trainer.max_epochs=3"),
        ("monitor=train/top1", "data.channels=1", "trainer.precision=32-true"),
        ("trainer.limit_train_batches=1.0", "data.batch_size=511", "augment.rescale=0.5"),
        ("data.num_workers=1", "trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=1"),
        (
            "scheduler=constant",
            "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR",
            "+scheduler.max_lr=0.01",
            "optimizer=adamw",
            "optimizer._target_=torch.optim.RMSprop",
            "~optimizer.betas",
            "~optimizer.bias_lr_multiplier",
            "~optimizer.bias_decay",
        ),
        ("experiment=smoke", "model.width=0.0625", "trainer.max_epochs=1"),
        ("model.devices=[cpu,cpu]", "model.lrn_window=tower"),
        pytest.param(
            ("experiment=imagenet_2012", "augment.pca_epochs=1", "trainer.max_epochs=2", "scheduler.changes.3.after=1"),
            marks=needs("experiment", "imagenet_2012"),
        ),
    ],
    ids=" ".join,
)
def test_every_choice_ends_in_figures(run: Callable, overrides: tuple[str, ...]) -> None:
    folder, metrics = run(*overrides)
    for split in ("train", "val", "test"):
        assert math.isfinite(metrics[split]["loss"])
        assert 0 <= metrics[split]["top1"] <= 1
        assert ("top5" in metrics[split]) == ("data.num_classes=3" not in overrides)
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


@first(1)
@digits
@pytest.mark.parametrize(
    "model",
    [
        pytest.param("model=lenet model.activation=relu", marks=needs("model", "lenet")),
        pytest.param("model=tutorial_net", marks=needs("model", "tutorial_net")),
        pytest.param("model=cifar", marks=needs("model", "cifar")),
        pytest.param("model=conv_local", marks=needs("model", "conv_local")),
    ],
)
def test_the_other_networks_learn_the_digits(model: str, config: Config, tmp_path: Path) -> None:
    small = ("trainer.max_epochs=3", "logger=none", "trainer.precision=32-true")
    assert train(config(*model.split(), "data=digits", f"outputs={tmp_path}", *small)) > 0.7


def test_same_seed_same_result_whatever_the_workers_and_another_seed_another(run: Callable) -> None:
    base = ("augment=light", "trainer.limit_train_batches=4")
    (first, m1), (second, m2), (third, m3) = (
        run(*base, f"seed={seed}", f"data.num_workers={workers}") for seed, workers in ((0, 0), (0, 2), (1, 0))
    )
    assert equal(weights(first), weights(second))
    assert [m1[s] for s in ("train", "val", "test")] == [m2[s] for s in ("train", "val", "test")]
    assert not equal(weights(first), weights(third))
    assert m1["seed"] == 0, "seed=0 is a seed"
    assert m1["train"] != m3["train"]


def test_arms_of_an_ablation_start_from_the_same_weights_and_see_the_same_images(run: Callable) -> None:
    """With a learning rate of almost nothing the shared weights stay as they were drawn."""
    still = ("optimizer.lr=1e-30", "trainer.limit_train_batches=1")
    plain, _ = run(*still)
    for toggle in ("model.lrn=false", "model.dropout=0", "model.activation=tanh", "augment=light", "scheduler=plateau"):
        other, _ = run(*still, toggle)
        for key, value in weights(plain).items():
            torch.testing.assert_close(weights(other)[key], value, atol=1e-20, rtol=0, msg=f"{toggle}: {key}")


def test_a_run_that_ends_inside_an_epoch_has_its_figures(run: Callable) -> None:
    folder, metrics = run("+trainer.max_steps=3", "trainer.limit_train_batches=8", "trainer.max_epochs=4")
    assert math.isfinite(metrics["val"]["loss"])
    assert metrics["images_per_second"] > 0
    assert {p.name for p in (folder / "checkpoints").iterdir()} >= {"best.ckpt"}
    _, untrained = run("trainer.max_epochs=0")
    assert "train" not in untrained
    assert math.isfinite(untrained["test"]["loss"])


@slow
def test_trainer_options_that_need_care(run: Callable) -> None:
    _, metrics = run("+trainer.check_val_every_n_epoch=2", "trainer.max_epochs=4", "scheduler=plateau")
    assert metrics["best_epoch"] in (2, 4)
    _, metrics = run("trainer.limit_test_batches=0")
    assert "test" not in metrics
    run("+trainer.fast_dev_run=true")


def test_micro_batches_drop_different_units(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    original = torch.nn.functional.dropout

    def dropout(*arguments: Any) -> torch.Tensor:
        seeds.append(torch.initial_seed())
        return original(*arguments)

    monkeypatch.setattr(torch.nn.functional, "dropout", dropout)
    run("trainer.accumulate_grad_batches=3", "trainer.limit_train_batches=6")
    assert len(set(seeds)) >= 6


@slow
def test_without_validation_images_the_training_loss_decides(run: Callable, capsys: pytest.CaptureFixture) -> None:
    for scheduler in ("plateau", "cosine"):
        folder, metrics = run("trainer.limit_val_batches=0", f"scheduler={scheduler}")
        assert "val" not in metrics
        assert metrics["monitor"] == "train/loss"
        assert (folder / "checkpoints" / "best.ckpt").is_file()
        assert "no validation images" in capsys.readouterr().out


def test_one_class_in_a_batch_and_a_folder_of_images(run: Callable, image_folder: Path) -> None:
    folder, metrics = run(
        "data=folder", f"data.root={image_folder}", "data.batch_size=1", "data.size=80", "data.crop=67"
    )
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["data"]["classes"] == ["n0", "n1"]
    assert checkpoint["config"]["data"]["num_classes"] == 2
    assert checkpoint["config"]["model"]["num_classes"] == 2
    assert "top5" not in metrics["test"]


def scored(folder: Path, data: ImageDataModule, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a run's best checkpoint on the stored images, in float64 and without Lightning, and the labels."""
    info, network = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["data"], load(folder).double()
    stored, margin = data.splits[split], (data.size - data.crop) // 2
    crop = slice(margin, margin + data.crop)
    mean, std = (torch.tensor(info[k], dtype=torch.float64)[:, None, None] for k in ("mean", "std"))
    labels = torch.from_numpy(stored.labels)
    logits = []
    for rows in np.array_split(stored.rows, max(1, len(labels) // 50)):
        images = torch.from_numpy(stored.images[rows][:, crop, crop]).permute(0, 3, 1, 2).double() / 255
        with torch.no_grad():
            logits.append(network((images - mean) / std))
    return torch.cat(logits), labels


def recomputed(folder: Path, data: ImageDataModule, split: str) -> dict[str, float]:
    scores, labels = scored(folder, data, split)
    ranked = scores.argsort(1, descending=True)
    return {
        "loss": -scores.log_softmax(1)[range(len(labels)), labels].mean().item(),
        "top1": (ranked[:, 0] == labels).double().mean().item(),
        "top5": (ranked[:, :5] == labels[:, None]).any(1).double().mean().item(),
    }


class Spoil(Callback):
    """Takes what the last layer has learnt before the third epoch is validated."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 2:
            pl_module.network.classifier.fc8.weight.data.neg_()


@pytest.mark.parametrize("test_epoch", ["best", "last"])
def test_the_figures_are_those_of_the_checkpoint(run: Callable, test_epoch: str) -> None:
    """Also where the last epoch is not the best."""
    folder, metrics = run(
        f"test_epoch={test_epoch}",
        "+callbacks.spoil._target_=tests.training.test_run.Spoil",
        "trainer.max_epochs=3", "trainer.limit_val_batches=1.0", "trainer.limit_test_batches=1.0",
        "trainer.limit_train_batches=6", "trainer.precision=32-true", "data.batch_size=50",
    )  # fmt: skip
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["epoch"] + 1 == metrics["best_epoch"]
    assert (metrics["best_epoch"] == 3) == (test_epoch == "last")
    data = ImageDataModule("fake", num_classes=10, size=80, crop=67)
    data.setup()
    for split in ("val", "test"):
        assert metrics[split] == pytest.approx(recomputed(folder, data, split), abs=1e-5)


def test_nan_stops_and_keeps_the_last_good_checkpoint(config: Config, tmp_path: Path) -> None:
    good = config(*TINY, f"outputs={tmp_path}", "trainer.max_epochs=2", "scheduler=step", "scheduler.milestones=[1]",
                  "scheduler.factor=1", f"run_dir={tmp_path}/run", "trainer.limit_train_batches=3")  # fmt: skip
    from alexnet.data import transforms

    calls = 0
    original = transforms.Augment.__call__

    def poisoned(self: Any, images: torch.Tensor, *rest: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return original(self, images, *rest) * (float("nan") if calls == 5 else 1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transforms.Augment, "__call__", poisoned)
        with pytest.raises(UserError, match=r"training loss is nan at step 5 \(epoch 2\), learning rate 0.01") as error:
            train(good)
    kept = tmp_path / "run" / "checkpoints" / "best.ckpt"
    assert str(kept) in str(error.value)
    for name in ("best", "last"):
        assert all(value.isfinite().all() for value in weights(tmp_path / "run", name).values())
    assert "loss is nan" in (tmp_path / "run" / "train.log").read_text()


def test_a_rate_that_is_too_high_is_said(config: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"loss is (nan|inf) at step \d+ .*: lower optimizer.lr") as said:
        train(config(*TINY, f"outputs={tmp_path}", "optimizer.lr=1e6", "trainer.limit_train_batches=8"))
    (folder,) = (tmp_path / "fake-alexnet").iterdir()
    assert f"{folder} holds only the log" in str(said.value)
    assert not list(folder.rglob("*.ckpt"))


@slow
def test_runs_leave_the_log_handlers_as_few_as_they_found_them(run: Callable) -> None:
    for _ in range(3):
        run()
    assert len(logging.getLogger("alexnet").handlers) <= 1


def test_exact_and_fast(run: Callable) -> None:
    """exact: float32, and bit for bit the same again. fast: the precision that this machine is fastest in."""
    (one, _), (again, _) = (run("trainer=exact") for _ in range(2))
    exact = OmegaConf.load(one / "config.yaml").trainer
    assert exact.precision == "32-true"
    assert exact.deterministic is True
    assert not torch.backends.cudnn.allow_tf32
    assert equal(weights(one), weights(again))
    folder, _ = run("trainer=fast")
    fast = OmegaConf.load(folder / "config.yaml").trainer
    assert fast.precision == ("bf16-mixed" if has_bfloat16() else "32-true")
    assert fast.benchmark is True
    assert torch.backends.cudnn.allow_tf32


@slow
def test_compiled_checkpoints_have_the_same_keys(run: Callable) -> None:
    plain, _ = run("trainer.limit_train_batches=1")
    compiled, _ = run("trainer.limit_train_batches=1", "compile=true")
    assert weights(plain).keys() == weights(compiled).keys()
    for key, value in weights(plain).items():
        torch.testing.assert_close(weights(compiled)[key], value, atol=2e-2, rtol=0.05)


def test_compile_without_a_compiler_goes_on(
    run: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    run("compile=true")
    assert "finds neither: not compiled" in capsys.readouterr().out


@slow
def test_the_default_network_leaves_the_plateau(config: Config, tmp_path: Path) -> None:
    """Full width, LRN, dropout 0.5: within 36 steps of 32 digits the loss is far below ln(10) = 2.303."""
    cfg = config(f"outputs={tmp_path}", "trainer.max_epochs=1", "trainer.limit_train_batches=36", "logger=none",
                 "monitor=val/loss", "mode=min", "trainer.limit_test_batches=1")  # fmt: skip
    assert train(cfg) < math.log(10) - 0.3


def test_a_metric_from_yaml_is_everywhere(run: Callable) -> None:
    """In metrics.json, in metrics.csv, and it may decide which epoch is best."""
    folder, metrics = run(
        "metrics=f1", "+metrics.recall._target_=torchmetrics.classification.MulticlassRecall",
        "+metrics.recall.num_classes=10", "monitor=val/f1", "logger=csv", "trainer.max_epochs=2",
    )  # fmt: skip
    for split in ("train", "val", "test"):
        assert metrics[split].keys() == {"loss", "top1", "top5", "f1", "recall"}
    assert {"val/f1", "test/recall"} <= set((folder / "metrics.csv").read_text().splitlines()[0].split(","))


def test_gradient_norms_are_logged(run: Callable, config: Config) -> None:
    """A step of plain descent at a rate of 1 moves every layer by its gradient."""
    plain = (
        *("optimizer=sgd", "optimizer.lr=1", "optimizer.momentum=0", "optimizer.weight_decay=0", "scheduler=constant"),
        *("trainer.limit_train_batches=1", "trainer.log_every_n_steps=1", "trainer.precision=32-true", "logger=csv"),
    )
    folder, _ = run(*plain)
    (row,) = (row for row in csv.DictReader((folder / "metrics.csv").open()) if row["gradients/01_features.conv1"])
    assert (row["epoch"], row["step"]) == ("0", "0")
    assert row["train/loss_step"]  # a step is one row
    before = build_components(config(*TINY, *plain)).network.state_dict()
    names = [key.removesuffix(".weight") for key in before if key.endswith(".weight")]
    assert {key for key in row if key.startswith("gradients")} == {
        f"gradients/{i:02}_{n}" for i, n in enumerate(names, 1)
    }
    for i, name in enumerate(names, 1):
        moved = (weights(folder)[f"network.{name}.weight"] - before[f"{name}.weight"]).double().norm()
        assert float(row[f"gradients/{i:02}_{name}"]) == pytest.approx(float(moved), rel=1e-3), name
    folder, _ = run(*plain, "callbacks=none")
    assert "gradients" not in (folder / "metrics.csv").read_text()


def test_a_callback_from_yaml(run: Callable, capsys: pytest.CaptureFixture) -> None:
    run(
        "+callbacks.say._target_=pytorch_lightning.callbacks.LambdaCallback",
        "+callbacks.say.on_fit_start._target_=hydra.utils.get_method",
        "+callbacks.say.on_fit_start.path=builtins.print",
    )
    assert "ImageClassifier(" in capsys.readouterr().out


@pytest.mark.parametrize("channels_last", [True, False])
def test_memory_layout(run: Callable, monkeypatch: pytest.MonkeyPatch, channels_last: bool) -> None:
    seen = []
    original = AlexNet.forward

    def forward(self: AlexNet, x: torch.Tensor) -> torch.Tensor:
        both = torch.channels_last, torch.contiguous_format
        seen.append([t.is_contiguous(memory_format=m) for t in (x, self.features.conv1.weight) for m in both])
        return original(self, x)

    monkeypatch.setattr(AlexNet, "forward", forward)
    run(f"channels_last={str(channels_last).lower()}")
    assert len(seen) >= 4
    assert all(each == [channels_last, not channels_last] * 2 for each in seen[1:]), "all but the look at the shapes"


def test_a_network_that_does_not_take_its_input_is_said(config: Config, tmp_path: Path) -> None:
    cfg = config(f"outputs={tmp_path / 'o'}", *TINY)
    cfg.model = {"_target_": "torch.nn.Linear", "in_features": 5, "out_features": 10}
    with pytest.raises(UserError, match=r"model: .*shapes cannot be multiplied.*HYDRA_FULL_ERROR=1 shows where"):
        train(cfg)
    assert not (tmp_path / "o").exists()


def test_the_best_epoch_by_training_is_that_epoch(run: Callable) -> None:
    """With a validation every second epoch, whose figures belong to no other."""
    folder, metrics = run(
        "+trainer.check_val_every_n_epoch=2", "monitor=train/loss", "mode=min", "trainer.max_epochs=5", "logger=csv",
        "trainer.limit_train_batches=6",
    )  # fmt: skip
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = {int(row["epoch"]): float(row["train/loss"]) for row in rows if row["train/loss"]}
    assert len(losses) == 5
    best = min(losses, key=losses.__getitem__)
    assert metrics["best_epoch"] == best + 1
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["metrics"]["train/loss"] == pytest.approx(losses[best])
    lines = [line for line in (folder / "train.log").read_text().splitlines() if "epoch " in line and "/5:" in line]
    assert ["val loss" in line for line in lines] == [False, True, False, True, False]
    assert math.isfinite(metrics["val"]["loss"]), "measured on the best checkpoint"


def test_lightnings_own_switches(run: Callable) -> None:
    run("+trainer.enable_progress_bar=false", "trainer.deterministic=warn")


@pytest.mark.parametrize("overfit", [True, False])
def test_overfit_batches_has_the_same_images_in_every_epoch(
    run: Callable, monkeypatch: pytest.MonkeyPatch, overfit: bool
) -> None:
    seen = []
    step = ImageClassifier.training_step

    def training_step(self: ImageClassifier, batch: Any, batch_idx: int) -> Any:
        seen.append(batch[0].clone())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ImageClassifier, "training_step", training_step)
    limit = ("+trainer.overfit_batches=1",) if overfit else ("trainer.limit_train_batches=1",)
    run(*limit, "trainer.max_epochs=3", "augment=none", "data.batch_size=8")
    assert len(seen) == 3
    assert all(torch.equal(images, seen[0]) == overfit for images in seen[1:])


def test_a_profilers_report_is_printed_and_kept(run: Callable, capsys: pytest.CaptureFixture) -> None:
    folder, _ = run("+trainer.profiler=simple")
    for text in (capsys.readouterr().out, (folder / "train.log").read_text()):
        assert "run_training_epoch" in text


def test_what_lightning_refuses_is_a_line_and_a_bug_in_a_step_is_not(
    run: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"trainer: .*val_check_interval"):
        run("+trainer.val_check_interval=100")
    assert not list((tmp_path / "outputs").glob("*/*"))

    def training_step(self: ImageClassifier, batch: Any, batch_idx: int) -> Any:
        return int("seven")

    monkeypatch.setattr(ImageClassifier, "training_step", training_step)
    with pytest.raises(ValueError, match="seven"):
        run()


def test_a_network_made_by_a_function_comes_back(config: Config, tmp_path: Path) -> None:
    cfg = config(f"run_dir={tmp_path / 'run'}", *TINY)
    cfg.model = {"_target_": "torchvision.models.squeezenet1_1", "num_classes": "${data.num_classes}"}
    train(cfg)
    assert load(tmp_path / "run")(torch.zeros(2, 3, 67, 67)).shape == (2, 10)


def test_a_network_that_could_not_be_loaded_is_refused(config: Config, tmp_path: Path) -> None:
    cfg = config(f"outputs={tmp_path / 'o'}", *TINY)
    cfg.model = {"_target_": "tests.training.test_run.Foreign"}
    with pytest.raises(
        UserError, match=r"model._target_=tests.training.test_run.Foreign: not of alexnet, torch, torchvision"
    ):
        train(cfg)
    assert not (tmp_path / "o").exists()


class Foreign(torch.nn.Identity):
    pass


def test_a_broken_image_in_a_worker_is_one_line(config: Config, image_folder: Path, tmp_path: Path) -> None:
    cfg = config(*TINY, "data=folder", f"data.root={image_folder}", "data.size=80", "data.crop=67", "data.packed=false",
                 "data.num_workers=1", f"outputs={tmp_path / 'o'}", "trainer.limit_train_batches=1.0")  # fmt: skip
    for path in (image_folder / "training").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(SystemExit) as ended, handle_errors():
        train(cfg)
    assert re.fullmatch(r"error: data: cannot read n./\d.png: .*", str(ended.value.code))


class Normed(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 67), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10))


@pytest.mark.parametrize(
    ("left", "overrides", "refused"),
    [
        (1, [], True),
        (2, [], False),
        (1, ["trainer.limit_train_batches=1"], False),  # which never comes to the last batch
        (1, ["freeze='0'"], True),
        (1, ["freeze='1'"], False),  # a frozen one does not look at the batch
    ],
)
def test_one_image_is_too_few_for_a_batch_norm(
    left: int, overrides: list[str], refused: bool, config: Config, tmp_path: Path
) -> None:
    small = [word for word in TINY if not word.startswith(("model", "trainer.limit_train"))]
    data = ImageDataModule("fake", size=80, crop=67, num_classes=10)
    data.setup()
    images = len(data.splits["train"])
    cfg = config(*small, f"outputs={tmp_path}", f"data.batch_size={images - left}", *overrides)
    cfg.trusted, cfg.model = ["tests"], OmegaConf.create({"_target_": "tests.training.test_run.Normed"})
    if not refused:
        train(cfg)
        return
    with pytest.raises(UserError, match=r"data.batch_size=\d+: .* model\.1, a BatchNorm2d") as raised:
        train(cfg)
    assert not list(tmp_path.iterdir())
    cfg.data.batch_size = int(re.findall(r"data.batch_size=(\d+)", str(raised.value))[-1])
    train(cfg)
