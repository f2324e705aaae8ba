"""What several tests share: the programs as a user starts them, a run inside this process, and small images."""

import logging
import os
import re
import signal
import subprocess
import sys

# Workers share the cores, and a fork of a process that has used OpenMP's threads hangs. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict
from PIL import Image

from tests import forked
from tests.forked import ROOT

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # by a shell's &; the programs that tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

SMOKE = ("experiment=smoke", "model.width=0.125", "panels=none")
Program = Callable[..., subprocess.CompletedProcess[str]]
Once = Callable[[str, Callable[[Path], object]], Path]


def has(package: str) -> bool:
    """Whether a part that training does not need, such as studies or inference, has not been deleted."""
    return (ROOT / "src" / "alexnet" / package).is_dir()


def options(group: str) -> list[str]:
    """Of a group of conf/."""
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


def needs(group: str, option: str) -> pytest.MarkDecorator:
    """Skips a test where an option of the template has been deleted, such as data/digits."""
    return pytest.mark.skipif(option not in options(group), reason=f"{group}={option} is gone")


digits = needs("data", "digits")
slow = pytest.mark.slow  # `make test` leaves it out, and SLOW=1 does not
first = pytest.mark.first  # first(2): `make test` runs two of a test's cases


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests with the marker gpu are skipped without one. GPU_TESTS_ON=cpu tries those of tests/gpu themselves."""
    tried = "GPU_TESTS_ON" in os.environ and item.path.parent.name == "gpu"
    if item.get_closest_marker("gpu") and not tried and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


def program(*command: str, code: int | None = 0, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a command line in the repository's root; `code` is the exit code that it must end with."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=300, check=False
    )
    return _ended(done, code)


def quick(*command: str, code: int | None = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """The same for `python COMMAND...`, in a process of its own that need not import torch first: tests.forked."""
    return _ended(forked.run(*command, timeout=300, env={**os.environ, **env}), code)


def train_py(*arguments: str, code: int | None = 0, **env: str) -> subprocess.CompletedProcess[str]:
    return quick("train.py", *arguments, code=code, **env)


def _ended(done: subprocess.CompletedProcess[str], code: int | None) -> subprocess.CompletedProcess[str]:
    said = f"{done.args} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    assert code is None or done.returncode == code, said
    return done


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Makes slow what `first` leaves."""
    seen: Counter[str] = Counter()
    for item in items:
        test = item.nodeid.partition("[")[0]
        seen[test] += 1
        few = item.get_closest_marker("first")
        if few and seen[test] > few.args[0]:
            item.add_marker(slow)


@contextmanager
def tensorboard(*arguments: str) -> Iterator[str]:
    """The address at which TensorBoard serves, with these arguments, for as long as that is needed."""
    command = [sys.executable, "-m", "tensorboard.main", *arguments, "--port=0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        yield next(found[0] for text in server.stderr if (found := re.search(r"http://localhost:\d+/", text)))
    finally:
        server.kill()
        server.wait()


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's own cache."""
    os.environ["ALEXNET_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Gives the folder of a name, which is filled once, whichever of xdist's workers asks for it first."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder(name: str, fill: Callable[[Path], object]) -> Path:
        path = base / name
        with FileLock(f"{path}.lock"):
            if not path.exists():
                path.mkdir()
                fill(path)
        return path

    return folder


@pytest.fixture(scope="session")
def smoke(once: Once) -> Path:
    """The folder of one `python train.py experiment=smoke`, which several tests read."""
    outputs = once("smoke", lambda path: program(sys.executable, "train.py", *SMOKE, f"outputs={path}"))
    (folder,) = (outputs / "smoke").iterdir()
    return folder


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """caplog for the project's own messages, whatever a run in this process before has left of their logger."""
    for name, value in (("propagate", True), ("disabled", False)):
        monkeypatch.setattr(logging.getLogger("alexnet"), name, value)
    caplog.set_level(logging.INFO, "alexnet")
    return caplog


@pytest.fixture
def config() -> Iterator[Callable[..., DictConfig]]:
    """Composes the config of `python train.py OVERRIDES...` as Hydra hands it to the program."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):

        def composed(*overrides: str) -> DictConfig:
            cfg = compose("train", list(overrides), return_hydra_config=True)
            with open_dict(cfg):
                cfg.hydra.job.config_name = "train"
                cfg.hydra.mode = RunMode.RUN
            HydraConfig.instance().set_config(cfg)
            with open_dict(cfg):
                del cfg["hydra"]
            return cfg

        yield composed


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    return two_classes(tmp_path / "pictures")


def two_classes(root: Path) -> Path:
    """A folder with training/ and validation/ of two classes, one blue and one red, in several formats and sizes."""
    draw = np.random.default_rng(0)
    for split, count in (("training", 8), ("validation", 3)):
        for name, colour in (("n0", (40, 40, 200)), ("n1", (200, 40, 40))):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                height, width = draw.integers(40, 120, 2)
                noise = draw.integers(-30, 30, (height, width, 3))
                image = Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8))
                image.save(folder / f"{i}.{('jpg', 'png', 'bmp')[i % 3]}")
    return root


# As the file is: spaces and tabs before the commas.
MONKEYS = """Label, Latin Name              , Common Name                   , Train Images , Validation Images
n0   , alouatta_palliata\t, mantled_howler                , 131          , 26
n1   , erythrocebus_patas\t, patas_monkey                  , 139          , 28
n2   , cacajao_calvus\t        , bald_uakari                   , 137          , 27
"""


def make_monkeys(folder: Path) -> Path:
    """Three of the ten monkey species as their archive unpacks: training/training/n0, validation/validation/n0."""
    draw = np.random.default_rng(0)
    root = folder / "monkeys"
    for split, count in (("training", 12), ("validation", 3)):
        for name in ("n0", "n1", "n2"):
            place = root / split / split / name
            place.mkdir(parents=True)
            for i in range(count):
                image = Image.fromarray(draw.integers(0, 256, (40, 50, 3), np.uint8))
                image.save(place / f"{name}{i:03}.jpg")
    (root / "monkey_labels.txt").write_text(MONKEYS)
    return root
