"""GPUs are dealt out to the jobs of a sweep that run side by side."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf, read_write

from alexnet.sweeps import gpus, skip
from alexnet.sweeps.callbacks import _gpus_of_a_job
from alexnet.sweeps.gpus import take_gpus
from alexnet.training import run

Job = Callable[..., str | None]


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: Callable[..., DictConfig]) -> Iterator[Job]:
    """The GPUs that job number `num` of a sweep is given on a machine with four, while all others still run."""
    held = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(gpus, "in_sweep", lambda: True)

    def given(num: int, *overrides: str, launcher: str = "joblib", visible: str | None = None) -> str | None:
        cfg = config(*overrides)
        hydra_config = gpus.HydraConfig.get()
        with read_write(hydra_config):
            hydra_config.job.num = num
            hydra_config.runtime.choices["hydra/launcher"] = launcher
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.setattr(gpus, "_held", [])  # every job is a process of its own
        take_gpus(cfg)
        held.extend(gpus._held)
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    yield given
    for lock in held:
        lock.release()


def test_every_job_has_its_own(job: Job) -> None:
    assert [job(num) for num in range(4)] == ["0", "1", "2", "3"]
    assert [job(num) for num in (4, 5)] == ["0", "1"], "shared, once all are taken"


def test_a_job_takes_the_one_that_is_free(job: Job) -> None:
    assert job(1) == "1"
    assert job(5) == "2", "as 1 still runs"


def test_several_to_a_job(job: Job) -> None:
    assert [job(num, "trainer.devices=2") for num in (0, 1, 2)] == ["0,1", "2,3", "0,1"]


def test_only_those_that_may_be_seen(job: Job) -> None:
    assert [job(num, visible="1,3") for num in (0, 1)] == ["1", "3"]


@pytest.mark.parametrize(
    ("overrides", "launcher"),
    [
        ((), "basic"),
        ((), "submitit_slurm"),
        (("trainer.accelerator=cpu",), "joblib"),
        (("trainer.devices=4",), "joblib"),
        (("trainer.devices=auto",), "joblib"),
    ],
)
def test_nothing_is_dealt_out(job: Job, overrides: tuple[str, ...], launcher: str) -> None:
    assert job(1, *overrides, launcher=launcher) is None


@pytest.mark.parametrize(
    ("devices", "accelerator", "asked"), [(2, "auto", 2), (8, "auto", 4), (2, "cpu", 0), ("auto", "gpu", 4)]
)
def test_what_ray_is_asked_for(
    devices: int | str, accelerator: str, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    trainer = {"devices": devices, "accelerator": accelerator}
    assert _gpus_of_a_job(OmegaConf.create({"trainer": trainer})) == asked


def test_gpus_are_taken_before_anything_uses_them(
    config: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a job was done before depends on its precision, which the GPU is asked for."""
    order = []

    def done_before(*_: object) -> dict[str, object]:
        order.append("looked up")
        return {"monitor": "val/top1", "val": {"top1": 0.5}}

    monkeypatch.setattr(skip, "take_gpus", lambda _: order.append("taken"))
    monkeypatch.setattr(skip, "find_finished_run", done_before)
    assert skip.run_job(config(), run.train) == 0.5
    assert order == ["taken", "looked up"]
