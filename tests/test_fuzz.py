"""Every value of conf/, given what nobody should: an error that names the key, or a run that works.

Each key gets one odd value, or with FUZZ=all every one, which takes minutes. `make test` tries one key of each line.
"""

import faulthandler
import os
import random
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from alexnet.config_keys import ROOT as ROOT_KEYS
from tests.conftest import ROOT, has, options, slow

ODD = ("text", "''", "-1", "0", "0.5", "1e308", "99999999999999999999", "nan", "true", "null", "[]", "[1,2]", "{a: 1}")
FEW = len(ODD) if os.environ.get("FUZZ") == "all" else 1
TINY = ("trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.accelerator=cpu", "data.batch_size=4")
PLAIN = ("experiment=smoke", "logger=none", "callbacks=none", "panels=none", *TINY)
SMALL = (*PLAIN, "model.width=0.0625")
LINES: dict[str, tuple[str, ...]] = {  # which keys, in which run
    "": SMALL,
    "data": SMALL,
    "augment": SMALL,
    "trainer": SMALL,
    "model": SMALL,
    "model of torchvision": (*PLAIN, "model=alexnet_torchvision", "data.crop=227"),
    "model cifar": (*PLAIN, "model=cifar", "data=fake"),
    "model conv_local": (*PLAIN, "model=conv_local", "data=fake"),
    "model lenet": (*PLAIN, "model=lenet", "data=fake"),
    "model tutorial_net": (*PLAIN, "model=tutorial_net", "data=fake"),
    **{f"optimizer {name}": (*SMALL, f"optimizer={name}") for name in ("adamw", "krizhevsky")},
    **{f"scheduler {name}": (*SMALL, f"scheduler={name}") for name in ("cosine", "log_2012", "plateau", "step")},
    "metrics": (*SMALL, "metrics=f1"),
    "callbacks": (*SMALL, "callbacks=gradients"),
    "logger": (*SMALL, "logger=default"),
    **({"study": (*SMALL, "study=lrn", "study.jobs=1", "seed=7")} if has("study") else {}),
    "prepare": ("data.size=24", "data.crop=20", "stream=there"),
}
NETWORKS = ("alexnet_torchvision", "cifar", "conv_local", "lenet", "tutorial_net")
GONE = {f"model={name}" for name in NETWORKS} - {f"model={name}" for name in options("model")}
LINES = {name: line for name, line in LINES.items() if not GONE & set(line)}


def keys() -> list[Any]:
    """Of every line, its own keys, model.lrn and so on: one of them, drawn by the line's name, and slow the others."""
    found = [("", "experiment"), ("", "after"), *(("prepare", key) for key in ROOT_KEYS["prepare"])]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for line, arguments in LINES.items():
            if line == "prepare":
                continue
            cfg, group = compose("train", list(arguments)), line.split(" ")[0]
            for name, value in cfg.get(group, cfg).items():
                objects = group in ("metrics", "callbacks", "logger")
                inner = [f"{name}.{key}" for key in value] if objects else [name]
                found += [(line, f"{group}.{key}".lstrip(".")) for key in inner]
    chosen = {line: random.Random(line).choice([key for of, key in found if of == line]) for line, _ in found}
    return [pytest.param(*case, marks=[] if chosen[case[0]] == case[1] else [slow]) for case in found]


@pytest.mark.parametrize(("line", "key"), keys())
def test_odd_values(
    line: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    entry_point = "prepare.py" if line == "prepare" else "train.py"
    names = [key.rpartition(".")[2]]
    if key.startswith(("metrics.", "callbacks.", "logger.")):  # other people's classes, called by their own name
        names.append(key.rpartition(".")[0])
    wrong = []
    for value in random.Random(key).sample(ODD, FEW):
        capsys.readouterr()
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [entry_point, *LINES[line], f"{key}={value}"])
        faulthandler.dump_traceback_later(200, exit=True, file=2)
        try:
            runpy.run_path(str(ROOT / entry_point), run_name="__main__")
        except SystemExit as ended:
            said = f"{ended.code}\n{capsys.readouterr().err}".strip()
            if not any(name in said for name in names) or len(said.splitlines()) > 3:
                wrong.append(f"{key}={value}: {said}")
            elif list(folder.iterdir()) and "training loss is" not in said:
                wrong.append(f"{key}={value}: {said}, and leaves {[*folder.rglob('*')]}")
        except BaseException as error:
            wrong.append(f"{key}={value}: {type(error).__name__}: {error}")
        else:
            if entry_point == "train.py" and not list(folder.rglob("metrics.json")):
                wrong.append(f"{key}={value}: no metrics.json")
        finally:
            faulthandler.cancel_dump_traceback_later()
    assert not wrong, "\n".join(wrong)
