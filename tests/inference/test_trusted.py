"""Networks and metrics of other packages: their code runs only where the user has said so."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

import alexnet
from alexnet.errors import UserError
from alexnet.inference.evaluate import evaluate
from alexnet.inference.export import export
from alexnet.inference.predict import predict
from alexnet.training.run import train
from tests.conftest import program, slow
from tests.training.test_run import TINY

CODE = """
from pathlib import Path
from torch import nn
from torchmetrics.classification import MulticlassPrecision

Path(__file__).with_name("ran").touch()

class Precision(MulticlassPrecision):
    pass

def small(classes, channels):
    return nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(64 * channels, classes))
"""
PRECISION = {"_target_": "mynets.Precision", "num_classes": "${data.num_classes}", "average": "macro"}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "own" / "mynets"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(CODE)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "mynets", raising=False)
    return package


@pytest.fixture
def run(mine: Path, config: Callable[..., DictConfig], tmp_path: Path) -> Path:
    cfg = config(*TINY, "metrics=f1", "trainer.limit_test_batches=1.0", "trainer.accelerator=cpu", "trusted=[mynets]",
                 "trainer.precision=32-true", "panels=none", f"run_dir={tmp_path / 'run'}")  # fmt: skip
    cfg.model = {"_target_": "mynets.small", "classes": "${data.num_classes}", "channels": "${data.channels}"}
    OmegaConf.update(cfg, "metrics.precision", PRECISION, force_add=True)
    train(cfg)
    return tmp_path / "run"


def test_training_asks_first(mine: Path, config: Callable[..., DictConfig], tmp_path: Path) -> None:
    cfg = config(*TINY, f"outputs={tmp_path / 'outputs'}")
    cfg.model = {"_target_": "mynets.small", "classes": "${data.num_classes}", "channels": "${data.channels}"}
    with pytest.raises(UserError, match=r"trusted=\[mynets\]"):
        train(cfg)
    assert not (tmp_path / "outputs").exists()


def test_a_checkpoint_runs_no_code_that_the_user_has_not_named(run: Path, mine: Path, tmp_path: Path) -> None:
    (mine / "ran").unlink()
    del sys.modules["mynets"]
    for use in (
        lambda: alexnet.load(run),
        lambda: evaluate(run, {}, tmp_path / "o"),
        lambda: export(run, "safetensors", tmp_path / "o"),
        lambda: alexnet.load(run, trusted=["timm"]),
    ):
        with pytest.raises(UserError, match=r"trusted=\[mynets\]"):
            use()
    assert not (mine / "ran").exists()
    assert not (tmp_path / "o").exists()


def test_with_it_everything_works(run: Path, tmp_path: Path) -> None:
    network = alexnet.load(run, trusted=["mynets"])
    images = torch.rand(2, 3, 67, 67)
    out, text = evaluate(run, {"trusted": ["mynets"]}, tmp_path / "evaluation")
    found = json.loads((out / "evaluation.json").read_text())
    assert found["as_in_training"] is True
    assert found["test"] == json.loads((run / "metrics.json").read_text())["test"]
    assert {"f1", "precision"} < found["test"].keys()
    assert f"f1              {found['test']['f1']:.4f}" in text
    (file, *_), _ = export(run, "safetensors", tmp_path / "export", trusted="mynets")
    assert torch.equal(alexnet.load(file, ["mynets"])(images), network(images))
    Image.new("RGB", (80, 80)).save(tmp_path / "image.png")
    _, problems = predict(run, [str(tmp_path / "image.png")], asked={"trusted": ["mynets"]})
    assert problems == []


def test_a_metric_of_another_package_is_left_out_and_said(
    mine: Path, config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    cfg = config(*TINY, "metrics=f1", f"run_dir={tmp_path / 'run'}", "panels=none")
    OmegaConf.update(cfg, "metrics.precision", PRECISION, force_add=True)
    train(cfg)
    out, text = evaluate(tmp_path / "run", {})
    assert "metrics.precision is left out" in text
    assert "trusted=[mynets]" in text
    assert "f1" in json.loads((out / "evaluation.json").read_text())["test"]


@slow
def test_on_the_command_line(run: Path, mine: Path, tmp_path: Path) -> None:
    env = {"PYTHONPATH": str(mine.parent)}
    for command in (["evaluate.py", str(run)], ["export.py", str(run), "--format", "safetensors"]):
        refused = program(sys.executable, *command, f"--out={tmp_path}/o", code=1, **env)
        assert "trusted=[mynets]" in refused.stderr
        program(sys.executable, *command, "trusted=[mynets]", f"--out={tmp_path}/o", **env)
    wrong = program(sys.executable, "evaluate.py", str(run), "trusted=[1]", code=1, **env)
    assert wrong.stderr.startswith("error: trusted=[1]: ")
