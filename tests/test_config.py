"""Every option of conf/ composes and builds; whatever is mistyped is named, in a file as on the command line."""

import inspect
import re
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from alexnet.config import build, check, target_class
from alexnet.config_keys import GROUPS, PRESETS
from alexnet.config_keys import ROOT as ROOT_KEYS
from alexnet.errors import UserError, suggest
from alexnet.training.build import panels
from alexnet.training.module import ImageModule
from alexnet.training.optim import make_optimizer, make_schedule
from tests.conftest import ROOT, first, has, quick, train_py

Config = Callable[..., DictConfig]
OPTIONS = [(path.parent.name, path.stem) for path in sorted((ROOT / "conf").glob("*/*.yaml"))]
OURS = [option for option in OPTIONS if option[0] in GROUPS]
NEEDS = {("logger", "wandb"): "wandb", ("logger", "mlflow"): "mlflow"}


def test_every_group_is_known() -> None:
    gone = set() if has("study") else {"study"}
    assert {group for group, _ in OPTIONS} == {*GROUPS, *PRESETS} - gone
    assert {*ROOT_KEYS, "base"} == {path.stem for path in (ROOT / "conf").glob("*.yaml")}


@pytest.mark.parametrize(("group", "option"), OURS)
def test_every_option_is_built(group: str, option: str, config: Config, image_folder: Path, tmp_path: Path) -> None:
    small = ["model.width=0.0625"] if group != "model" else []
    root = [f"data.root={image_folder}"] if option in ("folder", "hf") else []
    if option == "hf":
        pytest.importorskip("datasets")
    if option == "stream":
        quick("prepare.py", "data=folder", f"data.root={image_folder}", f"stream={tmp_path / 'stream'}")
        root = [f"data.root={tmp_path / 'stream'}"]
    if option == "csv":
        rows = [f"{path},{path.parent.name}" for path in image_folder.glob("training/*/*")]
        (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
        root = [f"data.root={tmp_path}/labels.csv"]
    if (group, option) == ("model", "torchvision"):
        root = ["data.channels=3"]
    cfg = config(f"{group}={option}", f"run_dir={tmp_path / 'run'}", *small, *root)
    check(cfg)
    if group == "trainer":
        build(cfg, "trainer", logger=False, precision="32-true")
    elif group == "logger":
        for name in cfg.logger:
            try:
                build(cfg, f"logger.{name}")
            except UserError as error:
                package = NEEDS[group, option]
                assert f"pip install {package}" in str(error)  # noqa: PT017
                assert subprocess.run([sys.executable, "-c", f"import {package}"], capture_output=True).returncode
    elif group == "task":
        assert issubclass(target_class(cfg, "task"), ImageModule)
    elif group in ("metrics", "callbacks"):
        assert all(build(cfg, f"{group}.{name}") for name in cfg[group])
    elif group == "panels":
        assert len(panels(cfg)) == sum(value is True for value in (cfg.panels or {}).values())
    elif group in ("optimizer", "scheduler"):
        network = torch.nn.Sequential(OrderedDict(conv1=torch.nn.Conv2d(2, 2, 1), fc=torch.nn.Linear(2, 2)))
        optimizer = make_optimizer(build(cfg, "optimizer", _partial_=True), network)
        make_schedule(build(cfg, "scheduler", _partial_=True), optimizer, 3, 30, cfg.monitor, cfg.mode)
    elif cfg[group]:
        cfg.data.num_classes = cfg.data.num_classes or 2
        build(cfg, group)
    assert not (tmp_path / "run").exists(), "building things writes nothing"


@pytest.mark.parametrize(("group", "option"), OURS)
def test_a_config_lists_every_argument_of_its_class(group: str, option: str, config: Config) -> None:
    """What is not listed could not be set on the command line without a plus sign."""
    node = config(f"{group}={option}")[group]
    if group == "task" or "alexnet." not in node.get("_target_", ""):
        pytest.skip("another project's class, with more arguments than are of use here")
    parameters = inspect.signature(get_object(node._target_)).parameters
    arguments = {name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
    given_by_the_program = {
        "augment",
        "crops",
        "mix",
        "test_classes",
        "network",
        "optimizer",
        "steps_per_epoch",
        "total_steps",
        "monitor",
        "mode",
    }
    listed = {key for key in node if key != "_target_"}
    if len(arguments) == len(parameters):
        assert listed == arguments - given_by_the_program
    else:  # it hands others on to the class that it derives from
        assert listed > arguments


def test_every_file_says_what_it_is_for() -> None:
    for path in (ROOT / "conf").rglob("*.yaml"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
        assert lines[0].startswith("# "), path


@first(3)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {lrm: false}", "model.lrm: no such key. Did you mean model.lrn?"),
        ("trainier: {max_epochs: 2}", "trainier: no such key. Did you mean trainer?"),
        ("sead: 3", "sead: no such key. Did you mean seed?"),
        ("lrn: false", "lrn: no such key. Did you mean model.lrn?"),
        ("augment: {flipp: 0}", "augment.flipp: no such key. Did you mean augment.flip?"),
        ("optimizer: {lrate: 1}", "optimizer.lrate: no such key"),
        ("early_stoping: 3", "early_stoping: no such key. Did you mean early_stopping?"),
        ("model: {lrn: perhaps}", "model.lrn=perhaps: must be true or false"),
        ("trainer: {max_epochs: many}", "trainer.max_epochs=many: must be a number, such as 6"),
    ],
)
def test_mistakes_in_a_preset_are_refused(text: str, message: str, tmp_path: Path) -> None:
    preset = tmp_path / "conf" / "experiment" / "mine.yaml"
    preset.parent.mkdir(parents=True)
    preset.write_text(f"# @package _global_\n{text}\n")
    done = train_py("--config-dir", str(tmp_path / "conf"), "experiment=mine", f"outputs={tmp_path}/o", code=1)
    assert f"error: {message}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o").exists()


@first(2)
@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("train.py", ["hydra.run.dir={path}"]),
        ("train.py", ["hydra.output_subdir=.hydra"]),
        ("train.py", ["hydra.job.chdir=true"]),
        ("train.py", ["-m", "seed=1,2", "hydra.sweep.dir={path}"]),
        ("train.py", ["-m", "seed=1,2", "hydra.sweep.subdir=one"]),
        ("prepare.py", ["hydra.run.dir={path}"]),
    ],
)
def test_keys_of_hydra_without_effect_are_refused(program: str, arguments: list[str], tmp_path: Path) -> None:
    path = tmp_path / "new"
    typed = [argument.format(path=path) for argument in arguments]
    done = quick(program, *typed, f"outputs={tmp_path}/outputs", code=1)
    assert done.stderr.startswith(f"error: {typed[-1].partition('=')[0]}=")
    assert not list(tmp_path.iterdir())


def test_a_sweep_over_presets_that_define_sweeps_is_refused(tmp_path: Path) -> None:
    preset = "# @package _global_\nhydra:\n  sweeper:\n    params:\n      model.lrn: true,false\n"
    (tmp_path / "experiment").mkdir()
    for name in ("a", "b"):
        (tmp_path / "experiment" / f"{name}.yaml").write_text(preset)
    found = ("--config-dir", str(tmp_path))
    done = train_py("-m", *found, "experiment=a,b", f"outputs={tmp_path}/o", code=1)
    assert "experiment=a defines a sweep itself, over model.lrn" in done.stderr
    assert not (tmp_path / "o").exists()


def test_a_preset_may_set_what_only_lightnings_class_knows(config: Config) -> None:
    check(config("+trainer.max_steps=7"))
    with pytest.raises(UserError, match=r"trainer.max_stepps: Trainer has no such argument. Did you mean max_steps?"):
        build(config("+trainer.max_stepps=7"), "trainer")


def test_a_name_may_be_of_digits_alone(config: Config) -> None:
    cfg = config("model.init=2012", "model.width=0.0625")
    check(cfg)
    assert build(cfg, "model").variant["lrn"] is True
    assert cfg.model.init == "2012"


def test_a_typing_mistake_in_a_groups_own_file(config: Config) -> None:
    cfg = config("+model.lnr=false")
    with pytest.raises(UserError, match=r"model.lnr: AlexNet has no such argument. Did you mean lrn\?"):
        build(cfg, "model")


def test_root_keys_of_the_main_file_are_all_read() -> None:
    keys = set(yaml.safe_load((ROOT / "conf" / "train.yaml").read_text())) - {"defaults", "hydra"}
    source = "".join(path.read_text() for path in (ROOT / "train.py", *(ROOT / "src" / "alexnet").rglob("*.py")))
    assert all(f"cfg.{key}" in source for key in keys)


BUGS = """
from torch import nn

class Small(nn.Module):
    def __init__(self, kind="value"):
        super().__init__()
        {"value": self.value, "key": self.key, "torch": self.torch, "import": self.imported}[kind]()

    def value(self):
        int("seven")

    def key(self):
        {}["width"]

    def torch(self):
        nn.Conv2d(3, 8, 3, groups=2)

    def imported(self):
        import alexnet.modles
"""


@pytest.mark.parametrize("kind", ["value", "key", "torch", "import"])
def test_a_bug_in_ones_own_class_keeps_its_trace(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"own_{kind}.py").write_text(BUGS)
    monkeypatch.syspath_prepend(tmp_path)
    cfg = OmegaConf.create({"model": {"_target_": f"own_{kind}.Small", "kind": kind}})
    with pytest.raises(Exception) as raised:  # noqa: PT011  # which one is the class's own affair
        build(cfg, "model")
    assert not isinstance(raised.value, UserError)
    assert raised.traceback[-1].path == tmp_path / f"own_{kind}.py" or kind in ("torch", "import")
    assert any(str(entry.path).endswith(f"own_{kind}.py") for entry in raised.traceback)
    notes = [note for note in raised.value.__notes__ if not note.startswith("full_key: ")]  # which is Hydra 1.4's own
    assert notes == ["while model was built from the config"]


def test_a_bug_in_ones_own_module_keeps_its_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_module.py").write_text("width = 1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        build(OmegaConf.create({"model": {"_target_": "own_module.Small"}}), "model")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "own_fine.Samll"}, "model._target_=own_fine.Samll: "),
        ({"_target_": "own_nowhere.Small"}, "model._target_=own_nowhere.Small: "),
        ({"_target_": "own_fine.Small", "p": 2}, "model.p=2: must be a number"),
        ({"_target_": "own_fine.Small"}, "model.p is missing: Small needs it"),
        ({"_target_": "own_fine.Small", "q": 2}, "model.q: Small has no such argument."),
        ({"_target_": "own_fine.needs"}, "model needs a package that is not installed: pip install pandaz"),
        (
            {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 4, "kernel_size": 3, "groups": 2},
            "model: ",
        ),
    ],
)
def test_a_wrong_argument_is_a_line(node: dict, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_fine.py").write_text(
        "from alexnet.validation import check_float\n"
        "class Small:\n    def __init__(self, p): check_float('p', p, 0, 1)\n"
        "def needs():\n    import pandaz.frames\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        build(OmegaConf.create({"model": node}), "model")


def test_nearest() -> None:
    assert suggest("lrm", ["lrn", "lrn_k", "dropout"]) == " Did you mean lrn?"
    assert suggest("modle", ["mode", "model"]) == " Did you mean model?"
    assert suggest("xyz", ["mode", "model"]) == ""
