"""Whether the working tree computes what another commit does: python -m tests.golden COMMIT [NAME ...]

Eight command lines are run in both, in float32 and with deterministic algorithms. What must be the same, to the last
bit: the weights, metrics.json, and of a study the rows of its report, all but times and places. A restructuring is
right when they are.
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from tests.conftest import ROOT, two_classes

SMALL = ("trainer=exact", "trainer.accelerator=cpu", "experiment=smoke", "panels=none", "logger=csv")
ALEXNET = (*SMALL, "model.width=0.0625")
LINES = {
    "lenet": (*SMALL, "model=lenet", "data=digits"),
    "alexnet": ALEXNET,
    "cifar": (*SMALL, "model=cifar", "data=digits"),
    "light": (*ALEXNET, "data=fake", "data.size=80", "data.crop=67", "augment=light"),
    "ranks": (*ALEXNET, "trainer.devices=2", "trainer.strategy=ddp"),
    "resumed": (*ALEXNET, "trainer.max_epochs=3", "+callbacks.stop._target_=golden_stop.StopOnce"),
    "study": (*ALEXNET, "study=groups", "hydra/launcher=basic", "seed=1,2,3"),
    "folder": (*ALEXNET, "data=folder", "data.root={images}", "data.size=80", "data.crop=67"),
}
STOP = """
import os
from pytorch_lightning import Callback

class StopOnce(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == 1 and not os.path.exists(os.environ["STOPPED"]):
            open(os.environ["STOPPED"], "w").close()
            raise KeyboardInterrupt
"""
OF_ITS_TIME = ("seconds", "images_per_second", "started", "git_commit", "git_dirty", "folder")
ADDED = ("test_epoch",)  # columns of report.csv that earlier versions do not have


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(LINES)}")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(LINES):
        parser.error(f"{', '.join(unknown)}: must be among {', '.join(LINES)}")
    with tempfile.TemporaryDirectory() as temporary:
        other, own = Path(temporary, "other"), Path(temporary, "own")
        other.mkdir()
        own.mkdir()
        (own / "golden_stop.py").write_text(STOP)
        two_classes(own / "images")
        archive = subprocess.run(["git", "archive", asked.commit], cwd=ROOT, stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "-x", "-C", str(other)], input=archive.stdout, check=True)
        differ = [name for name in asked.names or LINES if not is_same(name, other, own)]
    sys.exit(f"other than at {asked.commit}: {', '.join(differ)}" if differ else 0)


def is_same(name: str, other: Path, own: Path) -> bool:
    then, now = (outcome(name, tree, own / side / name, own) for side, tree in (("then", other), ("now", ROOT)))
    different = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    print(f"{name:8} {'the same' if not different else 'other: ' + ', '.join(different)}", flush=True)
    for key in different:
        print(f"         {key}: {then.get(key)!s:.60}, now {now.get(key)!s:.60}")
    return not different


def outcome(name: str, tree: Path, folder: Path, own: Path) -> dict[str, Any]:
    """Runs a line in a tree, and gives what must be the same."""
    line = [argument.format(images=own / "images") for argument in LINES[name]]
    place = f"outputs={folder}" if name == "study" else f"folder={folder}"
    env = {
        **os.environ,
        "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{own}",
        "ALEXNET_CACHE": str(folder.with_name(f"{name}-cache")),
        "STOPPED": str(folder.with_name(f"{name}-stopped")),
        "OMP_NUM_THREADS": "1",
    }
    lines = [[*line, place], [f"resume={folder}"]] if name == "resumed" else [[*line, place]]
    for number, arguments in enumerate(lines):
        done = subprocess.run(
            [sys.executable, "train.py", *arguments], cwd=tree, env=env, text=True, capture_output=True, check=False
        )
        if done.returncode != (130 if number < len(lines) - 1 else 0):
            sys.exit(f"{name} in {tree}: ended with {done.returncode}\n{done.stdout}{done.stderr}")
    if name == "study":
        (table,) = folder.rglob("report.csv")
        return {f"row {i}": row for i, row in enumerate(rows(table))}
    found = json.loads((folder / "metrics.json").read_text())
    weights = {path.name: digest(path) for path in (folder / "checkpoints").glob("*.ckpt")}
    return {key: value for key, value in found.items() if key not in OF_ITS_TIME} | weights


def digest(checkpoint: Path) -> str:
    """SHA-256 of the weights, and of momentum where there is some."""
    found = hashlib.sha256()
    content = torch.load(checkpoint, weights_only=True, map_location="cpu")
    states = [content["state_dict"], *(s for o in content.get("optimizer_states", ()) for s in o["state"].values())]
    for state in states:
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and value.numel() > 1:
                found.update(str(key).encode() + value.contiguous().numpy().tobytes())
    return found.hexdigest()


def rows(table: Path) -> list[dict[str, str]]:
    left = {*OF_ITS_TIME, *ADDED}
    with table.open() as file:
        return [{key: value for key, value in row.items() if key not in left} for row in csv.DictReader(file)]


if __name__ == "__main__":
    main()
