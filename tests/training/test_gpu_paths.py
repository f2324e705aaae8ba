"""What only a GPU needs, tried on the CPU: other devices are played by the meta device, or by a forced path."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from alexnet.data.functional import adjust_hue, flipped, resized_crop
from alexnet.errors import UserError
from alexnet.models import lrn_operation as lrn
from alexnet.training.callbacks import StopAtNaN, Throughput
from alexnet.training.optim import adamw, sgd, unfused
from alexnet.training.resume import LAST, put_beside_parameters
from alexnet.training.run import train
from tests.conftest import slow
from tests.training.test_run import TINY

Config = Callable[..., DictConfig]


class Compiler:
    """In place of torch.compile: counts what it compiles, or fails as it does without Triton."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.graphs = error, 0

    def __call__(self, of: Callable[..., Tensor], **kwargs: Any) -> Callable[..., Tensor]:
        return self.original(of, backend=self.backend, **kwargs)

    def backend(self, graph: Any, inputs: list[Tensor]) -> Any:
        self.graphs += 1
        if self.error:
            raise self.error
        return graph

    original = staticmethod(torch.compile)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    found = Compiler()
    monkeypatch.setattr(torch, "compile", found)
    monkeypatch.setattr(lrn.Fused, "cannot", False)
    lrn._fused.cache_clear()
    torch.compiler.reset()
    return found


@slow
def test_every_variant_of_lrn_is_compiled(compiler: Compiler) -> None:
    """torch.compile keeps 8 of a function, and a study of lrn_alpha has more."""
    x = torch.randn(20, 16)
    for alpha in range(1, 13):
        constants = (5, alpha / 10, 0.75, 2.0, "channels")
        for rows in (x, torch.randn(33, 16)):  # another batch size is the same kernel
            torch.testing.assert_close(lrn._fused(lrn._forward, *constants)(rows), lrn._forward(rows, *constants))
    assert compiler.graphs == 12


def test_without_a_compiler_lrn_is_the_formula(compiler: Compiler, logged: pytest.LogCaptureFixture) -> None:
    compiler.error = RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")
    x = torch.randn(20, 16)
    for size in (3, 5):
        constants = (size, 0.1, 0.75, 2.0, "channels")
        torch.testing.assert_close(lrn._fused(lrn._forward, *constants)(x), lrn._forward(x, *constants))
    assert compiler.graphs == 1, "it is tried once"
    (record,) = logged.records
    assert "Failed to find C compiler" in record.getMessage()


def test_lrn_out_of_memory_is_no_lack_of_a_compiler(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = lrn._fused(lrn._forward, 5, 0.1, 0.75, 2.0, "channels")

    def full(*_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(fused, "compiled", full)
    with pytest.raises(torch.OutOfMemoryError):
        fused(torch.randn(20, 16))
    assert not lrn.Fused.cannot


def test_states_go_to_the_devices_of_their_parameters() -> None:
    """As when half of the network is on a second GPU."""
    here, there = (nn.Parameter(torch.ones(3, device=device)) for device in ("cpu", "meta"))
    optimizer = torch.optim.SGD([here, there], 0.1, momentum=0.9)
    for parameter in (here, there):
        optimizer.state[parameter] = {"momentum_buffer": torch.ones(3), "step": torch.tensor(2.0), "none": None}
    put_beside_parameters(optimizer)
    assert optimizer.state[here]["momentum_buffer"].device.type == "cpu"
    assert optimizer.state[there]["momentum_buffer"].device.type == "meta"
    assert optimizer.state[there]["step"].device.type == "cpu"
    assert optimizer.state[there]["none"] is None


@pytest.mark.parametrize(
    "build", [sgd, adamw, lambda network: torch.optim.Adam(network.named_parameters(), 0.1, fused=True)]
)
def test_float16_steps_without_a_fused_optimizer(build: Callable[..., torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    networks = [nn.Linear(4, 3), nn.Linear(4, 3)]
    networks[1].load_state_dict(networks[0].state_dict())
    fused, plain = build(networks[0]), unfused(build(networks[1]))
    assert type(plain) is type(fused)
    assert not getattr(plain, "_step_supports_amp_scaling", False), "it would unscale gradients by itself"
    assert [g["param_names"] for g in plain.param_groups] == [g["param_names"] for g in fused.param_groups]
    for _ in range(3):
        for network, optimizer in zip(networks, (fused, plain), strict=True):
            network(torch.ones(2, 4)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    for a, b in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_float16_on_the_cpu_is_recorded_as_what_it_is(config: Config, tmp_path: Path) -> None:
    """Lightning trains in bfloat16 there."""
    line = ("trainer.precision=16-mixed", "trainer.accelerator=cpu")
    train(config(*TINY, *line, f"run_dir={tmp_path / 'run'}"))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["precision"] == "bf16-mixed"
    assert "no float16 training" in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.parametrize(("compiles", "images"), [(False, 3 * 8), (True, 2 * 8)])
def test_the_step_in_which_kernels_are_compiled_is_not_counted(
    compiles: bool, images: int, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []

    class Kept(Throughput):
        def __init__(self, **_: Any) -> None:
            super().__init__(compiles=compiles)
            kept.append(self)

    monkeypatch.setattr("alexnet.training.fit.Throughput", Kept)
    train(config(*TINY, "data.batch_size=8", "trainer.limit_train_batches=3", f"run_dir={tmp_path / 'run'}"))
    assert [speed.images for speed in kept] == [images]


def test_what_a_fast_job_sets_is_gone_in_the_next(config: Config, tmp_path: Path) -> None:
    train(config(*TINY, "trainer=fast", f"run_dir={tmp_path / 'fast'}"))
    assert torch.backends.cudnn.benchmark
    train(config(*TINY, f"run_dir={tmp_path / 'next'}"))
    assert not torch.backends.cudnn.benchmark


def test_weights_that_are_no_numbers_are_not_kept(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU the loss is read every 50 steps, and a state may be kept before."""

    def on_gpu(self: StopAtNaN, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.first is None and not math.isfinite(outputs["loss"]):
            self.first = torch.tensor([trainer.global_step, float(outputs["loss"])])

    monkeypatch.setattr(StopAtNaN, "on_train_batch_end", on_gpu)
    line = ("checkpoint_every=2", "optimizer=sgd", "optimizer.lr=1e6", "scheduler=constant", "data.batch_size=4")
    cfg = config(*TINY, *line, "trainer.limit_train_batches=12", f"run_dir={tmp_path / 'run'}")
    with pytest.raises(UserError, match=r"the training loss is (nan|inf)"):
        train(cfg)
    state = tmp_path / "run" / LAST
    if state.exists():
        values = torch.load(state, weights_only=True)["state_dict"].values()
        assert all(value.isfinite().all() for value in values if isinstance(value, Tensor))


def test_augmentation_makes_nothing_on_the_host() -> None:
    """On the meta device, whatever would be copied from the host, or read by it, is an error."""
    images = torch.zeros(4, 3, 8, 8, device="meta")
    rand = torch.zeros(4, device="meta")
    assert flipped(images, rand < 0.5, -1).shape == images.shape
    assert resized_crop(images, rand, rand, rand, rand, 6).shape == (4, 3, 6, 6)
    assert adjust_hue(images, rand).shape == images.shape


def test_flips_are_the_same_on_any_device() -> None:
    images = torch.randint(0, 256, (6, 3, 9, 9), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    chosen = torch.tensor([True, False, True, True, False, False])
    here = flipped(images, chosen, -1)
    elsewhere = torch.where(chosen[:, None, None, None], images.flip(-1), images)
    assert torch.equal(here, elsewhere)
    assert elsewhere.is_contiguous(memory_format=torch.channels_last)
