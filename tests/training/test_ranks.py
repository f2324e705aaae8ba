"""Many processes, one run."""

import csv
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from alexnet.data import PictureData
from tests.conftest import SMOKE, program, train_py
from tests.training.test_run import recomputed

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


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same run by one process and by two. The last batch of 77 training pictures, and of 269 others, is one:
    a rank has none.
    """
    folders = [tmp_path_factory.mktemp("pair") / name for name in ("one", "two")]
    for folder, ranks in zip(folders, ((), DDP), strict=True):
        train_py(
            *SMOKE, "model.dropout=0", "model.activation=tanh", "data.fraction=0.06", "data.batch_size=4",
            "trainer.limit_train_batches=1.0", "trainer.limit_val_batches=1.0", "trainer.limit_test_batches=1.0",
            "optimizer.lr=0.001", "trainer.accelerator=cpu", "trainer.precision=32-true", "logger=csv", *ranks,
            f"folder={folder}",
        )  # fmt: skip
        assert json.loads((folder / "run.json").read_text())["data"]["pictures"]["train"] == 77
    return folders


def test_two_ranks_learn_what_one_process_learns(one_and_two: list[Path]) -> None:
    one, two = (
        [float(row["train/loss_step"]) for row in csv.DictReader(path.open()) if row["train/loss_step"]]
        for path in (folder / "metrics.csv" for folder in one_and_two)
    )
    assert len(one) == 2 * 20
    assert max(one) - min(one) > 1, "something is learnt"
    assert two[:21] == pytest.approx(one[:21], abs=1e-5)
    assert two == pytest.approx(one, abs=2e-3), "what rounding makes of it in another 20 steps"


def test_figures_of_two_ranks_are_those_of_the_checkpoint(one_and_two: list[Path]) -> None:
    data = PictureData("digits", channels=1)
    data.setup()
    metrics = json.loads((one_and_two[1] / "metrics.json").read_text())
    for split in ("val", "test"):
        assert metrics[split] == pytest.approx(recomputed(one_and_two[1], data, split), abs=1e-5)
    alone = json.loads((one_and_two[0] / "metrics.json").read_text())
    assert metrics["train"] == pytest.approx(alone["train"], abs=1e-3)
    assert metrics["images_per_second"] * metrics["seconds"] == pytest.approx(2 * 77, rel=0.02)


def test_devices_share_a_batch_evenly(tmp_path: Path) -> None:
    done = train_py(*SMOKE, *DDP, "data.batch_size=7", f"outputs={tmp_path}/o", code=1)
    assert "error: data.batch_size=7: 2 devices share every batch evenly" in done.stderr
    assert not (tmp_path / "o").exists()


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
