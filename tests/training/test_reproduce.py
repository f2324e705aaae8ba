"""python train.py reproduce=RUN."""

import json
import shlex
import shutil
from pathlib import Path

import yaml

from tests.conftest import SMOKE, slow, train_py


def test_a_run_is_repeated_from_its_record(smoke: Path, tmp_path: Path) -> None:
    """Figure by figure; what does not decide them may be another."""
    again = train_py(f"reproduce='{smoke}'", f"outputs={tmp_path}", "data.num_workers=1", "logger=none").stdout
    figures = json.loads((smoke / "metrics.json").read_text())
    for split in ("train", "val", "test"):
        for name, value in figures[split].items():
            assert f"{split}/{name:8} {value:.6f}  {value:.6f}  the same\n" in again
    (folder,) = (tmp_path / "smoke").iterdir()
    config, before = (yaml.safe_load((run / "config.yaml").read_text()) for run in (folder, smoke))
    assert config.pop("reproduce") == str(smoke)
    assert config["data"].pop("num_workers") == 1
    for each in (config, before):
        for key in ("run_dir", "outputs", "logger", "reproduce"):
            each.pop(key, None)
        for key in ("num_workers", "cache_dir"):
            each["data"].pop(key, None)
    assert config == before


@slow
def test_the_lines_that_are_proposed_after_it_can_be_typed(smoke: Path, tmp_path: Path) -> None:
    run = tmp_path / "my runs" / "model.lrn=true,seed=1"
    shutil.copytree(smoke, run)
    said = train_py(f"reproduce={run}", f"outputs={tmp_path / 'new, 1'}").stdout
    one, many = (shlex.split(line) for line in said.splitlines() if " train.py " in line)
    assert one[2:] == [*SMOKE, f"outputs={tmp_path / 'new, 1'}", "model.lrn=false"]
    train_py(*one[2:], "--cfg", "job")
    done = train_py(*many[2:-1], "seed=1", "trainer.max_epochs=1", "trainer.limit_train_batches=1")
    assert done.stdout.count("epoch 1/1") == 2


def test_what_cannot_be_repeated(smoke: Path, tmp_path: Path) -> None:
    outputs = f"outputs={tmp_path}/o"
    assert (
        "/nowhere: not the folder of a finished run"
        in train_py(f"reproduce={tmp_path}/nowhere", outputs, code=1).stderr
    )
    seeded = train_py(f"reproduce='{smoke}'", "seed=2", outputs, code=1).stderr
    assert "error: seed=2: the run says this itself; leave it out to repeat it. A new run: python train.py " in seeded
    train_py(*shlex.split(seeded.partition("python train.py ")[2]), "--cfg", "job")
    other = tmp_path / "other"
    shutil.copytree(smoke, other)
    info = json.loads((other / "run.json").read_text())
    info["data"]["fingerprint"] = "0" * 64
    (other / "run.json").write_text(json.dumps(info))
    changed = train_py(f"reproduce={other}", outputs, code=1).stderr
    assert f"reproduce={other}: its images were others (SHA-256 000000000000, now " in changed
    assert not (tmp_path / "o").exists()


def test_a_run_of_before_a_key_was_there(smoke: Path, tmp_path: Path) -> None:
    """The key's default is what it was."""
    old = tmp_path / "old"
    shutil.copytree(smoke, old)
    config = yaml.safe_load((old / "config.yaml").read_text())
    for key in ("test_crops", "init_from", "freeze", "lr_multipliers", "panels"):
        del config[key]
    (old / "config.yaml").write_text(yaml.safe_dump(config))
    assert train_py(f"reproduce={old}", f"outputs={tmp_path}/o").stdout.count("the same\n") == 9


def test_a_figure_that_differs_is_said(smoke: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(smoke, other)
    metrics = json.loads((other / "metrics.json").read_text())
    metrics["test"]["loss"] += 0.5
    (other / "metrics.json").write_text(json.dumps(metrics))
    info = json.loads((other / "run.json").read_text())
    info["packages"]["torch"] = "1.0"
    (other / "run.json").write_text(json.dumps(info))
    done = train_py(f"reproduce={other}", f"outputs={tmp_path}/o", code=1)
    assert "test/loss" in done.stdout
    assert "  -0.5\n" in done.stdout
    assert "another torch: 1.0, now " in done.stdout
    assert f"error: not the same metrics as {other}" in done.stderr
