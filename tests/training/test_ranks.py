"""Many processes, one run."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import SMOKE, program, train_py

DDP = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder of the smoke run in two processes, and what it printed."""
    outputs = tmp_path_factory.mktemp("ranks")
    done = train_py(*SMOKE, *DDP, f"outputs={outputs}")
    (folder,) = outputs.glob("*/*")
    return folder, done


def test_a_run_of_two_ranks_leaves_one_folder_like_any_other(
    smoke: Path, two_ranks: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    def names(folder: Path) -> set[str]:
        files = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        return {re.sub(r"tfevents.*", "tfevents", name) for name in files}

    folder, done = two_ranks
    assert names(folder) == names(smoke)
    assert not done.stderr
    said = [line for line in done.stdout.splitlines() if "images/s" not in line and "top-1" not in line]
    assert len(said) == len(set(said)), "only one rank prints"
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["devices"] == 2
    ours, theirs = (json.loads((run / "metrics.json").read_text()) for run in (folder, smoke))
    assert ours.keys() == theirs.keys()
    assert ours["best_epoch"] in (1, 2)
    assert "epoch 2/2" in (folder / "train.log").read_text()


def test_a_node_that_does_not_come_is_not_waited_for_without_end(tmp_path: Path) -> None:
    arguments = [*SMOKE, "trainer.num_nodes=2", "trainer.accelerator=cpu", f"outputs={tmp_path}/o"]
    code = (
        "import datetime, runpy, sys, alexnet.training.run as run\n"
        "run.WAIT = datetime.timedelta(seconds=2)\n"
        f"sys.argv = ['train.py', *{arguments}]\n"
        "runpy.run_path('train.py', run_name='__main__')"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GROUP_RANK": "0",
                "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}  # fmt: skip
    done = program(sys.executable, "-c", code, code=1, **torchrun)
    assert "node 0 of 2: waiting for the others, up to 0:00:02" in done.stdout
    assert "error: trainer.num_nodes=2: the ranks did not meet within 0:00:02" in done.stderr
    assert not (tmp_path / "o").exists()
