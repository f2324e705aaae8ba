"""train.py as a user types it."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alexnet import load
from alexnet.cli import handle_errors
from alexnet.config import check
from alexnet.models import AlexNet
from alexnet.training.run import train
from tests.conftest import ROOT, SMOKE, digits, first, has, options, slow, train_py

Config = Callable[..., DictConfig]
TINY = (*SMOKE, "trainer.max_epochs=1", "trainer.limit_train_batches=1", "logger=none")


@slow
def test_help_shows_how_to_use_it_in_two_screens() -> None:
    text = train_py("--help").stdout
    assert "python train.py model.lrn=false" in text
    assert f"optimizer: {', '.join(options('optimizer'))}\n" in text
    assert text.count("\n") < 60
    assert "dropout: 0.5" in train_py("--cfg", "job", "--package", "model").stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_tab_completes_keys_and_options() -> None:
    script = f"""
        PATH={Path(sys.executable).parent}:$PATH
        eval "$(python train.py -sc install=bash)"
        for COMP_LINE in "python train.py optimizer=" "python train.py model.overl"; do
            COMP_POINT=${{#COMP_LINE}} COMP_WORDS=($COMP_LINE) COMP_CWORD=2
            hydra_bash_completion
            echo "${{COMPREPLY[@]}}"
        done"""
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    named = " ".join(f"optimizer={option}" for option in options("optimizer"))
    assert done.stdout == f"{named}\nmodel.overlapping_pooling=\n", done.stderr


@first(2)
@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["model.lrm=1"], ["model=alexnt"], ["+sead=1"]])
def test_answers_before_torch_is_imported(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    done = train_py(*arguments, code=None, PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert "torch was imported" not in done.stderr + done.stdout
    assert done.returncode == (0 if arguments[0].startswith("--") else 1)


MISTAKES = {
    "model.lrm=false": "model.lrm: no such key. Did you mean model.lrn?",
    "modle=alexnet": "modle: no such key. Did you mean model?",
    "+model.lrm=false": "model.lrm: no such key. Did you mean model.lrn?",
    "epochs=9": "epochs: no such key. Did you mean trainer.max_epochs?",
    "lrn=false": "lrn: no such key. Did you mean model.lrn?",
    "trainer.profiler=simple": "trainer.profiler: no such key. Any other argument of pytorch_lightning.Trainer is "
    "added with a plus: +trainer.profiler=VALUE",
    "optimiser.lr=1": "optimiser.lr: no such key. Did you mean optimizer.lr?",
    "model=alexnt": f"model=alexnt: must be one of {', '.join(options('model'))}. Did you mean alexnet?",
    "model=null": "Config group override must be",
    "model.lrn": "Error parsing override 'model.lrn'",
    "model.num_classes=3": "model.num_classes=3: the data have 10; leave it to them",
    "model.in_channels=3": "model: input of shape (1, 1, 227, 227): this network was built for (N, 3, 227, 227)",
    "model.activation=[relu]": "model.activation=['relu']: must be one value, such as relu",
    "model.dropout=1.5": "model.dropout=1.5: must be a number of at least 0 and at most 0.99",
    "model.lrn=perhaps": "model.lrn=perhaps: must be true or false",
    "model.groups=3": "model.groups=3: conv2 has 96 input and 256 output channels",
    "data=mnist": "data.crop=28: pool2 would get 2x2 pixels",
    "mode=up": "mode=up: must be one of min, max",
    "channels_last=1": "channels_last=1: must be true or false",
    "optimizer._target_=torch.optim.Nothing": "optimizer._target_=torch.optim.Nothing: Error loading",
    "scheduler=constant scheduler._target_=torch.optim.lr_scheduler.OneCycleLR": "scheduler: ",
    "scheduler=constant scheduler._target_=torch.nn.ReLU": "scheduler: ",
    "+callbacks.mine._target_=torch.nn.ReLU": "callbacks.mine: must be a Callback, and is a ReLU",
    "+metrics.top1._target_=torchmetrics.MeanMetric": "metrics.top1: every run of ImageClassifier has",
    "metrics=f1 monitor=val/f2": "monitor=val/f2: must be one of val/loss, val/top1, val/top5, val/f1",
    "data.crop=60": "data.crop=60: pool5 would get 2x2 pixels",
    "data.crop=300": "data.crop=300: must be at most size=256",
    "data=folder": "data.root is missing: pass data.root=FOLDER",
    "optimizer.lr=-1": "optimizer.lr=-1: must be a number above 0",
    "optimizer.lr=fast": "optimizer.lr=fast: must be a number, such as 0.01",
    "scheduler.final=2": "scheduler.final=2: must be a number of at least 0 and at most 1",
    "seed=-1": "seed=-1: must be a whole number",
    "monitor=val/top2": "monitor=val/top2: must be one of val/loss",
    "mode=min": "mode=min: the best val/top1 is the maximum, so mode=max",
    "early_stopping=-1": "early_stopping=-1: must be a whole number of at least 0",
    "test_crops=3": "test_crops=3: must be 1 (the centre), 5 (the corners and the centre) or 10",
    "compile=3": "compile=3: must be true or false",
    "trainer.precision=64-true": "trainer.precision=64-true: must be one of auto, 32-true, bf16-mixed, 16-mixed.",
    "trainer.max_epochs=null": "trainer.max_epochs=None: must be a whole number of at least -1",
    "trainer.max_epochs=-1": "scheduler: a cosine needs an end",
    "trainer.accumulate_grad_batches=0": "trainer.accumulate_grad_batches=0: must be a whole number of at least 1",
    "trainer.gradient_clip_val=-1": "trainer.gradient_clip_val=-1: must be a number of at least 0",
    "+trainer.enable_checkpointing=false": "trainer.enable_checkpointing=False: the run sets this itself",
    "trainer.limit_val_batches=0.001": "trainer: ",
    "data.seed=99999999999999999999": "data.seed=99999999999999999999: must be a whole number",
    "outputs=null": "outputs=None: must be the path of a folder",
    "run_dir=''": "run_dir=: must be the path of a folder",
    "scheduler=step scheduler.milestones=5": "scheduler.milestones=5: must be",
    "trainer.max_epochs=many": "trainer.max_epochs=many: must be a number, such as 6",
    "trainer.accelerator=abacus": "trainer: ",
    "+trainer.max_stepps=3": "trainer.max_stepps: Trainer has no such argument. Did you mean max_steps?",
    "logger=telegraph": "logger=telegraph: must be one of csv,",
    "augment._target_=1": "augment._target_=1: must be text, such as alexnet.data.Augment",
    "model._target_=true": "model._target_=True: must be text",
    "model._target_=null": "model._target_=None: must be the name of a class or function",
    "model._target_=torch.nn.AlexNot": "model._target_=torch.nn.AlexNot: Error loading 'torch.nn.AlexNot'",
    "logger.tensorboard.name=1.5": "logger.tensorboard.name=1.5: must be text; in quotes it is: ",
    "logger.csv.name=true": "logger.csv.name=True: must be text",
    "optimizer.lr=???": "optimizer.lr has no value: pass optimizer.lr=VALUE",
    "model.lrn_size=99999999999999999999": "model.lrn_size=99999999999999999999: must be a whole number",
    "model.lrn_beta=1e308": "model.lrn_beta=1e+308: must be a number of at least 0 and at most 5",
    "model.lrn=false model.lrn_alpha=false": "model.lrn_alpha=False: must be a number",
    "model.width=1e308": "model.width=1e+308: must be a number above 0 and at most 100",
    "optimizer.momentum=false": "optimizer.momentum=False: must be a number",
    "optimizer.lr=1e308": "optimizer.lr=1e+308: must be a number above 0 and at most 1e+06",
    "augment.pca=1e308": "augment.pca=1e+308: must be a number of at least 0 and at most 100",
    "scheduler.warmup_epochs=false": "scheduler.warmup_epochs=False: must be a number",
    "trainer.accumulate_grad_batches=99999999999999999999": "trainer.accumulate_grad_batches=99999999999999999999: ",
    "trainer.limit_train_batches=0": "trainer.limit_train_batches=0: must be a share above 0 up to 1.0, or",
    "trainer.limit_train_batches=false": "trainer.limit_train_batches=False: must be a share",
    "trainer.limit_val_batches=1.5": "trainer.limit_val_batches=1.5: must be 0, a share up to 1.0, or a whole number",
    "trainer.num_nodes=99999999999999999999": "trainer.num_nodes=99999999999999999999: must be a whole number",
    "+trainer.check_val_every_n_epoch=0": "trainer.check_val_every_n_epoch=0: must be a whole number of at least 1",
    "trainer.deterministic=3": "trainer.deterministic=3: must be true, false or warn",
    "trainer.num_nodes=2 trainer.strategy=ddp": "trainer.num_nodes=2: start the run on every node",
    "trainer.log_every_n_steps=nan": "trainer.log_every_n_steps=nan: must be a whole number of at least 0",
    "trainer.log_every_n_steps=-1": "trainer.log_every_n_steps=-1: must be a whole number of at least 0",
    "trainer.num_sanity_val_steps=inf": "trainer.num_sanity_val_steps=inf: must be a whole number of at least -1",
    "trainer.devices=99999999999999999999": "trainer.devices=99999999999999999999: must be a whole number",
    "trainer.accelerator=cpu trainer.devices=2 data.batch_size=7": "data.batch_size=7: 2 devices share every batch",
}  # fmt: skip
if "digits" not in options("data"):
    del MISTAKES["model.in_channels=3"]  # which other images have


def refused(*arguments: str, outputs: Path) -> str:
    """Runs what must not run: one or two lines, exit code 1, and nothing left behind. Gives what it said."""
    where = [] if any(argument.startswith("outputs=") for argument in arguments) else [f"outputs={outputs}"]
    done = train_py(*arguments, *where, code=1)
    said = [line for line in done.stderr.splitlines() if not line.startswith("Error executing job")]
    assert said
    assert len(said) <= 2, done.stderr
    assert said[0].startswith("error: ")
    assert not outputs.exists()
    return said[0]


@pytest.mark.parametrize("argument", MISTAKES)
def test_mistakes(argument: str, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What train.py does, in this process: one or two lines, and nothing left behind."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    outputs = tmp_path / "o"
    small = [] if argument == "model.groups=3" else ["model.width=0.0625"]
    arguments = [*small, *argument.split(), *([] if argument.startswith("outputs=") else [f"outputs={outputs}"])]
    with pytest.raises(SystemExit) as ended, handle_errors():  # noqa: PT012
        cfg = config(*arguments)
        check(cfg)
        train(cfg)
    assert f"error: {MISTAKES[argument]}" in str(ended.value.code)
    assert len(str(ended.value.code).splitlines()) <= 2
    assert not outputs.exists()


@pytest.mark.parametrize(
    "argument", ["model.lrm=false", "model=alexnt", "model.groups=3", "trainer.limit_val_batches=0.001"]
)
def test_mistakes_on_the_command_line(argument: str, tmp_path: Path) -> None:
    assert MISTAKES[argument] in refused(argument, outputs=tmp_path / "o")


@slow
def test_more_mistakes(tmp_path: Path) -> None:
    outputs = tmp_path / "o"
    assert "model=[1]: must be the name of an option" in refused("model=[1]", outputs=outputs)
    assert "no such folder" in refused("data=folder", f"data.root={tmp_path}/none", outputs=outputs)
    (tmp_path / "there").mkdir()
    assert "exists already" in refused(f"run_dir={tmp_path}/there", outputs=outputs)
    assert "model.lrm: no such key" in refused("-m", "model.lrm=true,false", outputs=outputs)
    assert "no sweep to resume" in refused("-m", "seed=1,2", f"run_dir={tmp_path}/x", outputs=outputs)
    assert "cannot make /proc/none" in refused("-m", "seed=1,2", outputs=Path("/proc/none"))
    preset = tmp_path / "conf" / "experiment" / "mine.yaml"
    preset.parent.mkdir(parents=True)
    preset.write_text("# @package _global_\nmodel: {lrn: [\n")
    assert "mine.yaml" in refused("--config-dir", f"{tmp_path}/conf", "experiment=mine", outputs=outputs)
    if not find_spec("wandb"):
        assert "logger.wandb needs a package that is not installed: pip install wandb" in refused(
            "logger=wandb", outputs=outputs
        )
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = train_py(*SMOKE, f"outputs={blocked}", code=1)
    assert re.search(r"error: outputs: cannot make .*Choose outputs=FOLDER", done.stderr)
    assert blocked.read_text() == ""


@digits
def test_the_folder_of_a_run_tells_everything(smoke: Path) -> None:
    names = {path.name for path in smoke.iterdir()}
    assert names >= {
        "config.yaml",
        "overrides.yaml",
        "run.json",
        "metrics.json",
        "metrics.csv",
        "train.log",
        "checkpoints",
    }
    config = yaml.safe_load((smoke / "config.yaml").read_text())
    assert config["model"]["num_classes"] == 10, "interpolations are resolved"
    assert config["model"]["width"] == 0.125
    assert "experiment=smoke" in yaml.safe_load((smoke / "overrides.yaml").read_text())
    run = json.loads((smoke / "run.json").read_text())
    assert run["seed"] == 1
    assert run["packages"]["torch"] == torch.__version__.split("+")[0]
    assert re.fullmatch("[0-9a-f]{64}", run["data"]["fingerprint"])
    assert run["data"]["pictures"] == {"train": 1259, "val": 269, "test": 269}
    assert run["data"]["files"] == "", "digits are of no files"
    assert {"git_commit", "git_dirty", "command", "started", "machine", "python"} <= run.keys()
    metrics = json.loads((smoke / "metrics.json").read_text())
    assert all({"loss", "top1", "top5"} == metrics[split].keys() for split in ("train", "val", "test"))
    assert metrics["parameters"] == sum(p.numel() for p in AlexNet(10, 1, width=0.125).parameters())
    assert metrics["flops_per_image"] > 0
    assert 2 * 4 * 8 / metrics["images_per_second"] == pytest.approx(metrics["seconds"], abs=0.006)
    assert "epoch 2/2" in (smoke / "train.log").read_text()


def test_tensorboard_and_csv_hold_the_curves(smoke: Path) -> None:
    events = EventAccumulator(str(smoke)).Reload()
    scalars = set(events.Tags()["scalars"])
    assert scalars >= {"train/loss", "train/top1", "val/loss", "val/top1", "test/top1", "images_per_second"}
    assert any(name.startswith("lr-") for name in scalars)
    metrics = json.loads((smoke / "metrics.json").read_text())
    assert events.Scalars("train/loss")[-1].value == pytest.approx(metrics["train"]["loss"])
    assert events.Scalars("Final/test_top1")[-1].value == pytest.approx(metrics["test"]["top1"])
    assert "_hparams_/session_start_info" in events.summary_metadata, "the HPARAMS tab"
    assert "_hparams_/experiment" not in events.summary_metadata, "else TensorBoard does not look for what differs"
    assert sorted(scalars)[0].startswith("Final/"), "the tab shows the first five"
    varied = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    for name in (b"model.lrn", b"trainer.max_epochs", b"optimizer", b"AlexNet", b"cosine", b"compile"):
        assert name in varied
    with (smoke / "metrics.csv").open() as file:
        assert {"train/loss", "val/top1"} <= set(next(csv.reader(file)))


@digits
def test_checkpoints_hold_plain_values_and_rebuild_the_network(smoke: Path) -> None:
    for name in ("best", "last"):
        path = smoke / "checkpoints" / f"{name}.ckpt"
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint["config"]["model"]["width"] == 0.125
        assert checkpoint["data"]["classes"] == list("0123456789")
        network = load(path)
        assert not network.training
        weights = {k.removeprefix("network."): v for k, v in checkpoint["state_dict"].items()}
        assert all(torch.equal(v, weights[k]) for k, v in network.state_dict().items() if isinstance(v, torch.Tensor))
    assert load(smoke)(torch.zeros(1, 1, 227, 227)).shape == (1, 10)


def test_an_ablated_checkpoint_does_not_pass_for_the_whole_network(tmp_path: Path) -> None:
    train_py(
        *SMOKE,
        "model.lrn=false",
        "trainer.max_epochs=1",
        f"run_dir={tmp_path}/run",
        "logger=none",
    )
    state = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    weights = {k.removeprefix("network."): v for k, v in state.items()}
    channels = weights["features.conv1.weight"].shape[1]
    assert not [m for m in load(tmp_path / "run").modules() if type(m).__name__ == "LocalResponseNorm"]
    with pytest.raises(ValueError, match="lrn is False there and True here"):
        AlexNet(10, channels, width=0.125).load_state_dict(weights)
    AlexNet(10, channels, width=0.125, lrn=False).load_state_dict(weights)


def test_a_sweep_is_one_folder_with_a_folder_for_each_job(tmp_path: Path) -> None:
    done = train_py("-m", "model.lrn=true,false", "seed=1,2", *TINY, f"outputs={tmp_path}")
    (sweep,) = (tmp_path / "smoke").iterdir()
    jobs = [sweep / f"model.lrn={lrn},seed={seed}" for lrn in ("true", "false") for seed in (1, 2)]
    assert sorted(path for path in sweep.iterdir() if path.is_dir()) == sorted(jobs)
    configs = [yaml.safe_load((job / "config.yaml").read_text()) for job in jobs]
    assert [(c["model"]["lrn"], c["seed"]) for c in configs] == [(True, 1), (True, 2), (False, 1), (False, 2)]
    assert all((job / "metrics.json").is_file() for job in jobs)
    assert done.stdout.count("test top-1 accuracy") == 4


def test_a_sweep_says_each_failure_and_goes_on(tmp_path: Path) -> None:
    done = train_py("-m", "model.groups=3,1,5", *TINY, f'outputs="{tmp_path}/it\'s here"', code=1)
    said = [line for line in done.stderr.splitlines() if line.startswith(("error: job", "job"))]
    assert said[0].startswith("error: job 0 (model.groups=3")
    assert "model.groups=5: conv2 has" in said[1]
    assert "error: 2 of the sweep's jobs failed:" in done.stderr
    assert len(said) == 4, "each when it happens, and a list at the end"
    assert "Traceback" not in done.stderr
    (sweep,) = (tmp_path / "it's here" / "smoke").iterdir()
    assert (f"report {sweep / 'report.md'}" in done.stdout) == has("study"), "of the one that is done"
    assert [path.name for path in sweep.iterdir() if path.is_dir()] == ["model.groups=1"]


@pytest.mark.parametrize("written", ["outputs=~/runs", "outputs='~/runs'"])
def test_home_is_the_users_home(written: str, tmp_path: Path) -> None:
    train_py(*SMOKE, "trainer.max_epochs=1", "logger=none", written, HOME=str(tmp_path))
    assert list((tmp_path / "runs" / "smoke").glob("*/metrics.json"))


def interrupted(*arguments: str, at: str, number: int) -> tuple[int, str]:
    """Python with `arguments`, sent a signal when it prints a line that starts with `at`: exit code and stderr."""
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(at):
            process.send_signal(number)
            break
    _, said = process.communicate(timeout=300)
    return process.returncode, said


INTERRUPTED = """
import sys, time, runpy
import alexnet.training.resume
from alexnet.data import ImageDataModule
from alexnet.training.tasks import ImageClassifier

alexnet.training.resume.GRACE = 1

def wait(*_, **__):
    print("now", flush=True)
    time.sleep(60)

if "{phase}" == "setup":
    ImageDataModule.setup = wait
else:
    setattr(ImageClassifier, "{phase}_step", wait)
sys.argv = ["train.py", *{arguments}]
runpy.run_path("train.py", run_name="__main__")
"""


@slow
@pytest.mark.parametrize(
    ("phase", "number", "code"),
    [("setup", signal.SIGINT, 130), ("training", signal.SIGTERM, 143), ("validation", signal.SIGTERM, 143),
     ("test", signal.SIGINT, 130), ("test", signal.SIGTERM, 143)],
)  # fmt: skip
def test_every_phase_can_be_stopped(phase: str, number: int, code: int, tmp_path: Path) -> None:
    arguments = [*SMOKE, "trainer.max_epochs=1", "logger=none", f"outputs={tmp_path}/o"]
    script = INTERRUPTED.format(phase=phase, arguments=arguments)
    ended, said = interrupted("-c", script, at="now\n", number=number)
    assert ended == code, said
    line = said.strip().splitlines()[-1]
    if phase == "setup":
        assert line == "interrupted"
        assert not (tmp_path / "o").exists()
    else:
        (folder,) = (tmp_path / "o" / "smoke").iterdir()
        assert line == f"interrupted; resume with python train.py resume={folder}"
    assert "Traceback" not in said


def test_two_sweeps_at_once_keep_apart(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda seed: train_py("-m", f"seed={seed}", *TINY, f"outputs={tmp_path}"), (3, 4)))
    found = sorted((tmp_path / "smoke").glob("*/*/metrics.json"))
    assert [json.loads(path.read_text())["seed"] for path in found] in ([3, 4], [4, 3])
    assert len({path.parent.parent for path in found}) == 2


@slow
def test_ctrl_c_says_what_is_left_and_ends_as_shells_expect(tmp_path: Path) -> None:
    ended, said = interrupted(
        "train.py", *SMOKE, "trainer.max_epochs=500", f"outputs={tmp_path}", at="epoch 2/", number=signal.SIGINT
    )
    assert ended == 130
    assert "interrupted; resume with python train.py resume=" in said
    assert "Traceback" not in said
    (folder,) = (tmp_path / "smoke").iterdir()
    assert (folder / "checkpoints" / "last.ckpt").is_file()


def test_smoke_is_quick(tmp_path: Path) -> None:
    begin = time.perf_counter()
    train_py(*SMOKE, f"outputs={tmp_path}")
    assert time.perf_counter() - begin < 120, "40 s is what is promised for an idle machine"
