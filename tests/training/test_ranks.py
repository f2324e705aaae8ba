"""Many processes, one run."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import yaml

from alexnet.data import ImageDataModule
from tests.conftest import ROOT, SMOKE, digits, first, needs, options, program, slow, train_py
from tests.training.test_run import recomputed, scored

DDP = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp")


def run_with_one_and_two(path: Path) -> None:
    """The same run by one process and by two. The last batch of 77 training images, and of 269 others, is one:
    a rank has none.
    """
    for name, ranks in (("one", ()), ("two", DDP)):
        done = train_py(
            *SMOKE, "model.dropout=0", "model.activation=tanh", "data.fraction=0.06", "data.batch_size=4",
            "trainer.limit_train_batches=1.0", "trainer.limit_val_batches=1.0", "trainer.limit_test_batches=1.0",
            "optimizer.lr=0.001", "trainer.accelerator=cpu", "trainer.precision=32-true", *ranks,
            f"run_dir={path / name}",
        )  # fmt: skip
        (path / f"{name}.out").write_text(done.stdout)
        (path / f"{name}.err").write_text(done.stderr)


@pytest.fixture(scope="module")
def one_and_two(once: Callable[[str, Callable[[Path], object]], Path]) -> list[Path]:
    path = once("one_and_two", run_with_one_and_two)
    return [path / "one", path / "two"]


@digits
def test_a_run_of_two_ranks_leaves_one_folder_like_any_other(one_and_two: list[Path]) -> None:
    def names(folder: Path) -> set[str]:
        files = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        return {re.sub(r"tfevents.*", "tfevents", name) for name in files}

    one, two = one_and_two
    assert names(one) == names(two)
    assert not two.with_suffix(".err").read_text()
    said = two.with_suffix(".out").read_text().splitlines()
    assert len(said) == len(one.with_suffix(".out").read_text().splitlines()), "only one rank prints"
    assert yaml.safe_load((two / "config.yaml").read_text())["trainer"]["devices"] == 2
    metrics, other = (json.loads((run / "metrics.json").read_text()) for run in (two, one))
    assert metrics.keys() == other.keys()
    assert metrics["images_per_second"] * metrics["seconds"] == pytest.approx(2 * 77, rel=0.02)
    assert "epoch 2/2" in (two / "train.log").read_text()
    assert json.loads((two / "run.json").read_text())["data"]["pictures"]["train"] == 77


@digits
def test_two_ranks_learn_what_one_process_learns(one_and_two: list[Path]) -> None:
    one, two = (
        [float(row["train/loss_step"]) for row in csv.DictReader(path.open()) if row["train/loss_step"]]
        for path in (folder / "metrics.csv" for folder in one_and_two)
    )
    assert len(one) == 2 * 20
    assert max(one) - min(one) > 1, "something is learnt"
    assert two[:21] == pytest.approx(one[:21], abs=1e-4)
    assert two == pytest.approx(one, abs=2e-3), "what rounding makes of it in another 20 steps"


@slow
@digits
def test_figures_of_two_ranks_are_those_of_the_checkpoint(one_and_two: list[Path]) -> None:
    data = ImageDataModule("digits", channels=1)
    data.setup()
    metrics = json.loads((one_and_two[1] / "metrics.json").read_text())
    for split in ("val", "test"):
        assert metrics[split] == pytest.approx(recomputed(one_and_two[1], data, split), abs=1e-5)
    right = np.load(one_and_two[1] / "test_right.npz")
    scores, labels = scored(one_and_two[1], data, "test")
    expected = {"top1": scores.argmax(1) == labels, "top5": (scores.topk(5).indices == labels[:, None]).any(1)}
    for name, whether in expected.items():
        bits = np.unpackbits(right[name], count=right["pictures"])
        assert (bits != whether.numpy()).sum() <= 1, "in the order of the images, whichever rank had them"
    alone = json.loads((one_and_two[0] / "metrics.json").read_text())
    assert metrics["train"] == pytest.approx(alone["train"], abs=2e-3)
    assert metrics["images_per_second"] * metrics["seconds"] == pytest.approx(2 * 77, rel=0.02)


BAD = """
import os, signal, sys
from multiprocessing.util import Finalize
from pytorch_lightning import Callback

class Bad(Callback):
    def __init__(self, how="none", rank=1):
        self.how, self.rank = how, rank

    def setup(self, trainer, module, stage):
        if self.how == "late" and stage == "test" and trainer.global_rank == self.rank:
            Finalize(None, os.abort, exitpriority=0)  # when the process ends

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_rank == self.rank and trainer.global_step == 3:
            if self.how == "raise":
                raise RuntimeError("boom")
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def bad(tmp_path: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Overrides and environment for runs whose rank 1 ends as callbacks.bad.how says."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "bad.py").write_text(BAD)
    return (
        (*SMOKE, *DDP, "logger=none", "+callbacks.bad._target_=bad.Bad", "+callbacks.bad.rank=1"),
        {"PYTHONPATH": f"{tmp_path}/code", "MARK": f"{tmp_path}"},
    )


def marked(mark: str) -> list[Path]:
    """The processes with MARK=mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"MARK={mark}\0".encode() in (process / "environ").read_bytes() + b"\0":
                found.append(process)
    return found


def listening(mark: str) -> list[str]:
    """The addresses that these processes listen on, as /proc writes them."""
    mine = set()
    for process in marked(mark):
        for path in (process / "fd").iterdir():
            with suppress(OSError):
                mine.add(os.readlink(path))
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path("/proc/net", name).read_text().splitlines()[1:]]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in mine]


@slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_a_rank_that_fails_ends_its_job_and_no_other(bad: tuple, tmp_path: Path) -> None:
    overrides, env = bad
    done = program(
        sys.executable,
        "train.py",
        "-m",
        "after=none",
        "+callbacks.bad.how=raise,kill,none",
        *overrides,
        f"outputs={tmp_path}/o",
        code=1,
        **env,
    )
    (sweep,) = (tmp_path / "o").glob("*/*")
    folders = [sweep / f"callbacks.bad.how={how}" for how in ("raise", "kill", "none")]
    reasons = ("rank 1: RuntimeError: boom", "rank 1: Signal 9 (SIGKILL) received")
    assert [(folder / "metrics.json").exists() for folder in folders] == [False, False, True]
    at_once, _, at_the_end = done.stderr.partition("error: 2 of the sweep's jobs failed:")
    for number, (reason, folder) in enumerate(zip(reasons, folders, strict=False)):
        assert re.search(rf"error: job {number} \(.*\): {re.escape(reason)}", at_once)
        assert re.search(rf"job {number} \(.*\): {re.escape(reason)}.*\({re.escape(str(folder))}\)", at_the_end)
    assert "Traceback" not in done.stderr
    assert 'bad.py", line' in (folders[0] / "train.log").read_text(), "the trace is in the log"
    assert not marked(str(tmp_path))


@slow
def test_a_rank_that_fails_when_all_is_written_fails_nothing(bad: tuple, tmp_path: Path) -> None:
    overrides, env = bad
    done = program(sys.executable, "train.py", *overrides, "+callbacks.bad.how=late", f"outputs={tmp_path}/o", **env)
    assert "rank 1 ended with an error after the run was done: Signal 6 (SIGABRT)" in done.stdout
    assert "test top-1 accuracy" in done.stdout
    assert not done.stderr


@slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("number", "to", "code", "more"),
    [
        (signal.SIGINT, os.killpg, 130, []),  # as a terminal does
        (signal.SIGTERM, os.killpg, 143, []),  # as SLURM does
        (signal.SIGTERM, os.kill, 143, ["-m", "seed=1,2"]),
        (signal.SIGKILL, os.kill, -9, []),
    ],
)
def test_signals_leave_no_rank_behind(
    number: int, to: Callable[[int, int], None], code: int, more: list[str], tmp_path: Path
) -> None:
    arguments = [*more, *SMOKE, *DDP, "trainer.max_epochs=500", "logger=none", f"outputs={tmp_path}/o"]
    env = os.environ | {"MARK": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "train.py", *arguments], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    assert set(listening(str(tmp_path))) == {"0100007F"}, "127.0.0.1, and no address that others can reach"
    to(process.pid, number)
    _, said = process.communicate(timeout=300)
    end = time.monotonic() + 10
    while marked(str(tmp_path)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not marked(str(tmp_path))
    assert process.returncode == code
    folders = [path.parent for path in (tmp_path / "o").rglob("train.log")]
    assert len(folders) == 1, "no job is started after the signal"
    if number != signal.SIGKILL:
        one = f"interrupted; resume with python train.py resume={folders[0]}\n"
        hint = f"to resume, add run_dir={folders[0].parent} to the command\n"
        assert said == (f"interrupted; what is done is in {folders[0]}\n{hint}" if more else one)


@digits
@slow
@pytest.mark.parametrize("ranks", [(), DDP], ids=["one", "two"])
def test_signals_that_nohup_and_a_shell_have_switched_off_stay_so(ranks: tuple[str, ...], tmp_path: Path) -> None:
    off = (signal.SIGHUP, signal.SIGINT)

    def switch_off() -> None:
        for number in off:
            signal.signal(number, signal.SIG_IGN)

    arguments = [*SMOKE, *ranks, "trainer.max_epochs=8", f"run_dir={tmp_path}/run"]
    process = subprocess.Popen(
        [sys.executable, "train.py", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True, preexec_fn=switch_off,
    )  # fmt: skip
    assert process.stdout
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    for number in off:
        os.killpg(process.pid, number)
    process.communicate(timeout=300)
    assert process.returncode == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "done"
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"] == 8


ENDS_UNDER_SIGNALS = """
import multiprocessing, os, signal, sys, threading
from pathlib import Path
from alexnet.training import launch

def another(*_):
    thread = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))
    thread.start()
    thread.join()

def interrupted(*_, **__):
    try:
        with launch.translate_errors(Path(sys.argv[1])):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        another()

launch._fit_rank, launch._note_error = interrupted, another
rank = multiprocessing.get_context("fork").Process(
    target=launch._run_rank, args=(0, 1, 0, {"keep_memory": False}, 1, dict(os.environ), sys.argv[1], False)
)
rank.start()
rank.join()
sys.exit(rank.exitcode)
"""


@slow
def test_a_rank_that_ends_takes_no_further_signal(tmp_path: Path) -> None:
    """Ctrl-C reaches a rank from the terminal and from the program that started it, and any of its threads."""
    done = program(sys.executable, "-c", ENDS_UNDER_SIGNALS, str(tmp_path), code=130)
    assert not done.stderr


@slow
def test_a_node_that_does_not_come_is_not_waited_for_without_end(tmp_path: Path) -> None:
    arguments = [*SMOKE, "trainer.num_nodes=2", "trainer.accelerator=cpu", f"outputs={tmp_path}/o"]
    code = (
        "import datetime, runpy, sys, alexnet.training.trainer as trainer\n"
        "trainer.WAIT = datetime.timedelta(seconds=2)\n"
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
    assert "error: the ranks did not meet: Timed out" in done.stderr
    assert not (tmp_path / "o").exists()


def together(commands: list[list[str]], environments: list[dict[str, str]]) -> list[str]:
    """Runs programs side by side, all of which must end well. Gives what each printed."""
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for command, env in zip(commands, environments, strict=True)
    ]
    try:
        ended = [(process.communicate(timeout=300), process.returncode) for process in processes]
    except subprocess.TimeoutExpired:
        for process in processes:
            process.kill()
        pytest.fail("\n".join(f"{process.args}:\n{process.communicate()}" for process in processes))
    assert [code for _, code in ended] == [0] * len(commands), ended
    return [out for (out, _), _ in ended]


ONCE = (*SMOKE, "trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "logger=none")


@slow
def test_torchrun_gives_one_folder(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    (said,) = together([[*torchrun, "train.py", *ONCE, "trainer.devices=2", f"outputs={tmp_path}"]], [{}])
    (folder,) = tmp_path.glob("*/*")
    assert (folder / "metrics.json").exists()
    assert said.count("test top-1 accuracy") == 1


@slow
def test_ranks_stop_together_at_a_loss_that_is_no_number_on_one(tmp_path: Path) -> None:
    """Nobody watches the ranks of several nodes: none of them may wait for another that has ended."""
    (tmp_path / "broken.py").write_text(
        "import os, torch\n"
        "class Broken(torch.nn.Linear):\n"
        "    def __init__(self, num_classes): super().__init__(1, num_classes)\n"
        "    def forward(self, x):\n"
        "        return super().forward(x.mean((1, 2, 3))[:, None]) / (1 - int(os.environ.get('RANK', 0)))\n"
    )
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "broken.yaml").write_text("_target_: broken.Broken\nnum_classes: ${data.num_classes}\n")
    line = [*("--config-dir", str(tmp_path), "model=broken", "trusted=[broken]", "trainer.num_nodes=2"),
            *("trainer.accelerator=cpu", "panels=none", "logger=none", f"run_dir={tmp_path / 'run'}")]  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [
        subprocess.Popen(
            [sys.executable, "train.py", *line], cwd=ROOT, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(tmp_path), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                              "TORCHELASTIC_RUN_ID": "x", "RANK": rank, "GROUP_RANK": rank, "LOCAL_RANK": "0",
                              "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"},
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    ended = [rank.communicate(timeout=60)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [1, 1]
    assert all("the training loss is" in text and "at step 1" in text for text in ended), ended


@slow
def test_two_nodes_give_one_folder(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    agents = [
        [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={node}", "--nproc-per-node=1",
         "--master-addr=127.0.0.1", f"--master-port={port}", "train.py", *ONCE, "trainer.num_nodes=2",
         f"outputs={tmp_path}"]
        for node in range(2)
    ]  # fmt: skip
    first, second = together(agents, [{}, {}])
    (folder,) = tmp_path.glob("*/*")
    assert (folder / "metrics.json").exists()
    assert "test top-1 accuracy" in first
    assert second.splitlines() == ["node 1 of 2: waiting for the others, up to 0:10:00"]


SLURM = {"SLURM_JOB_NAME": "study", "SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1"}


@slow
def test_two_slurm_tasks_give_one_folder(tmp_path: Path) -> None:
    tasks = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_ID": str(os.getpid())}
    environments = [SLURM | tasks | {"SLURM_PROCID": i, "SLURM_LOCALID": i} for i in ("0", "1")]
    command = [sys.executable, "train.py", *ONCE, "trainer.devices=2", f"outputs={tmp_path}"]
    first, second = together([command, command], environments)
    (folder,) = tmp_path.glob("*/*")
    assert (folder / "metrics.json").exists()
    assert "test top-1 accuracy" in first
    assert not second


@first(2)
@pytest.mark.parametrize(
    ("started", "arguments", "message"),
    [
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2"}, ["-m", "seed=1,2", "trainer.devices=2"],
         "python train.py -m seed=1,2 trainer.devices=2"),
        (SLURM | {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
         ["trainer.devices=1"], "trainer.devices=1: 2 processes were started for 1; pass trainer.devices=2"),
        ({}, ["trainer.devices=2", "trainer.num_nodes=2"], "trainer.num_nodes=2: start the run on every node"),
        ({}, ["trainer.devices=2", "trainer.strategy=ddp_spawn"], "the run starts its ranks itself, so ddp is enough"),
        ({}, ["trainer.devices=2", "data.batch_size=7"], "data.batch_size=7: 2 devices share every batch evenly"),
        ({}, ["-m", "seed=1,2", "hydra.launcher._target_=hydra_plugins.hydra_absent_launcher.Launcher"],
         "hydra/launcher=basic needs a package that is not installed: pip install hydra-absent-launcher"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(
    started: dict[str, str], arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = train_py(*arguments, "trainer.accelerator=cpu", f"outputs={tmp_path}/o", code=1, **started)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert message in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o").exists()


@needs("hydra/launcher", "joblib")
@slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launchers_run_jobs(launcher: str, tmp_path: Path) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.split('_')[0]}_launcher")
    devices = 2 if launcher == "joblib" else 1
    command = [
        "-m",
        "model.groups=1,5",
        f"hydra/launcher={launcher}",
        f"trainer.devices={devices}",
        "after=none",
        *ONCE,
    ]
    done = program(sys.executable, "train.py", *command, f"outputs={tmp_path}", code=1)
    (sweep,) = tmp_path.glob("*/*")
    assert [path.parent.name for path in sweep.glob("*/metrics.json")] == ["model.groups=1"]
    run = json.loads((sweep / "model.groups=1" / "run.json").read_text())
    assert run["command"][0] == "train.py"
    assert "Traceback" not in done.stderr
    reason = done.stderr.partition("error: 1 of the sweep's jobs failed:\n")[2]
    assert re.fullmatch(r"job 1 \(model.groups=5 .*\): model.groups=5: .* groups must divide both\n", reason)


@first(1)
@pytest.mark.parametrize("launcher", options("hydra/launcher"))
def test_presets_of_launchers(launcher: str) -> None:
    done = train_py(f"hydra/launcher={launcher}", "--cfg", "hydra")
    assert f"hydra_plugins.hydra_{launcher.split('_')[0]}_launcher." in done.stdout
