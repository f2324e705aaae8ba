"""No room on the disk, no memory, no home: a line that says what to do, or the run goes on."""

import re
import subprocess
from collections.abc import Callable, Iterator
from multiprocessing import resource_sharer
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from alexnet.errors import UserError
from alexnet.training.logging import translate_errors
from tests.conftest import ROOT, SMOKE, first, quick, slow, train_py
from tests.training.test_resume import checkpoint

LINE = (*SMOKE, "trainer.limit_train_batches=2", "trainer.accelerator=cpu")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system of a size of its own, `disk("600k")`, or another size or `ro` in its place. training/
    test_resume.py has what needs no mount: a limit on the size of files.
    """
    path = tmp_path / "disk"
    path.mkdir()

    def mounted(options: str) -> Path:
        again = "remount," if path.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", f"{again}{options}", "none", str(path)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounts no file system here")
        return path

    yield mounted
    subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True)


def refused(*arguments: str, entry_point: str = "train.py", **env: str) -> str:
    said = quick(entry_point, *arguments, code=1, **env).stderr
    lines = [line for line in said.splitlines() if not line.startswith("Error executing job")]
    assert len(lines) == 1, said
    return lines[0]


@first(1)
@pytest.mark.parametrize(
    ("size", "what"),
    [("8k", "git.diff|run.json|config.yaml|overrides.yaml"), ("600k", "checkpoints/best.ckpt")],
)
def test_a_run_on_a_full_disk(size: str, what: str, disk: Callable[..., Path]) -> None:
    run = disk(f"size={size}") / "run"
    no_git = {"GIT_DIR": str(run)}  # what is not committed could fill the disk
    said = refused(*LINE, f"run_dir={run}", **no_git)
    assert any(f"error: {run}/{name}: cannot be written: No space left on device; make room" in said
               for name in what.split("|")), said  # fmt: skip
    assert not list(run.rglob("*.part"))
    disk("size=50M")
    if f"resume with python train.py resume={run}" in said:
        train_py(f"resume={run}", **no_git)
        assert checkpoint(run, "last.ckpt")["epoch"] == 2


@slow
@pytest.mark.parametrize("logger", ["tensorboard", "csv"])
def test_curves_on_a_full_disk(logger: str, disk: Callable[..., Path], tmp_path: Path) -> None:
    line = (*LINE, f"logger={logger}", f"logger.{logger}.save_dir={disk('size=8k')}/curves", f"run_dir={tmp_path}/run")
    said = refused(*line, "trainer.max_epochs=40")
    assert "cannot be written: No space left on device; " in said
    assert said.endswith(f"make room, and resume with python train.py resume={tmp_path}/run")
    disk("size=10M")
    train_py(f"resume={tmp_path}/run")


def test_a_cache_on_a_full_disk(image_folder: Path, disk: Callable[..., Path]) -> None:
    cache = disk("size=100k")
    line = ("data=folder", f"data.root={image_folder}", f"data.cache_dir={cache}")
    assert "GB are needed, and 0.00 GB are free. Choose data.cache_dir=FOLDER" in refused(
        *line, entry_point="prepare.py"
    )
    assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    disk("size=50M")
    quick("prepare.py", *line)


@slow
def test_what_may_only_be_read(image_folder: Path, disk: Callable[..., Path], tmp_path: Path) -> None:
    """Outputs, where nothing works without them; a cache that others have filled; a home."""
    data = ("data=folder", f"data.root={image_folder}", "data.size=80", "data.crop=67")
    path = disk("size=50M")
    quick("prepare.py", *data, f"data.cache_dir={path}/cache")
    disk("ro,size=50M")
    done = train_py(*LINE, f"outputs={path}/o", code=1).stderr
    assert f"error: outputs: cannot make {path}/o/smoke" in done
    assert "Read-only file system. Choose outputs=FOLDER" in done
    assert "Traceback" not in done
    train_py(*LINE, *data, f"data.cache_dir={path}/cache", f"outputs={tmp_path}/o")
    said = refused(*LINE, *data, f"data.cache_dir={path}/other", f"outputs={tmp_path}/none")
    assert f"data.cache_dir: cannot write {path}/other" in said
    assert "Read-only file system. Choose data.cache_dir=FOLDER" in said
    assert not (tmp_path / "none").exists()
    (tmp_path / "program.py").write_text(
        "import os, runpy\nos.environ.pop('ALEXNET_CACHE')\nrunpy.run_path('train.py', run_name='__main__')\n"
    )
    for number, home in enumerate((path, "/proc/none")):
        said = quick(f"{tmp_path}/program.py", *LINE, f"run_dir={tmp_path}/home{number}", HOME=str(home))
        assert "LRN is not compiled" not in said.stdout


STARVED = """
import multiprocessing, os, signal
import torch
from pytorch_lightning import Callback

class Starved(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.current_epoch == 1 and batch_idx == 0 and "STARVE" in os.environ:
            if os.environ["STARVE"] == "worker":
                os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            else:
                torch.empty(10**14)
"""


@slow
@pytest.mark.parametrize(
    ("starve", "what", "then"),
    [("worker", r"a process that loads images has died \(.*\)\. It is what happens", ["data.num_workers=0"]),
     ("memory", "out of memory: .*allocate.* A smaller data.batch_size or data.num_workers needs less", [])],
)  # fmt: skip
def test_no_memory(starve: str, what: str, then: list[str], tmp_path: Path) -> None:
    (tmp_path / "starved.py").write_text(STARVED)
    env = {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    line = (*LINE, "trainer.limit_train_batches=6", "+callbacks.starved._target_=starved.Starved", "keep_memory=false")
    line += ("data.num_workers=1",) if starve == "worker" else ("data.batch_size=128",)
    said = refused(*line, f"run_dir={tmp_path}/run", STARVE=starve, **env)
    assert re.search(what, said), said
    assert "resumes after epoch 1" in train_py(f"resume={tmp_path}/run", *then, **env).stdout


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_worker_that_dies_as_it_hands_over_a_batch(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def detach(self: object) -> int:
        raise error

    monkeypatch.setattr(resource_sharer.DupFd, "detach", detach)
    with pytest.raises(UserError, match=r"has died \(.+\)\. .*data.num_workers=0"), translate_errors(tmp_path):
        next(iter(DataLoader(torch.rand(4, 3), num_workers=1)))
    with pytest.raises(type(error)), translate_errors(tmp_path):  # any other keeps its trace
        raise type(error)
