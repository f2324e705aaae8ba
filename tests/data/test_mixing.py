"""mix=: which images are mixed, how, and what a run makes of soft labels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scipy.stats import beta, kstest
from torch import Tensor, nn
from torchvision.transforms import v2

from alexnet.data import ImageDataModule
from alexnet.data.loader import RANDOM_COLUMNS, EpochSampler, ShardedBatchSampler, with_partners
from alexnet.data.mixing import CutMix, Mix, MixUp, MixUpCutMix
from alexnet.errors import ArgumentError, UserError
from alexnet.rng import uniform
from alexnet.training.build import build_components
from alexnet.training.losses import CrossEntropy, Focal
from alexnet.training.run import train
from tests.conftest import slow
from tests.training.test_run import TINY, equal, weights

DRAW = np.random.default_rng(0)
RAND = torch.from_numpy(uniform(3, 0, range(400), len(RANDOM_COLUMNS)))
LABELS = torch.eye(4)[torch.arange(400) % 4], torch.eye(4)[(torch.arange(400) + 1) % 4]


def draws(name: str) -> Tensor:
    return RAND[:, RANDOM_COLUMNS.index(name)]


def shares(mix: Mix) -> Tensor:
    """How much of its own label each sample keeps."""
    images = torch.zeros(400, 1, 8, 8)
    _, labels = mix((images, images), LABELS, RAND)
    assert labels.sum(1).numpy() == pytest.approx(1)
    return (labels * LABELS[0]).sum(1)


@pytest.mark.parametrize(("n", "world_size"), [(8, 1), (8, 2), (8, 4), (8, 8), (6, 2), (7, 3), (3, 4), (1, 1), (2, 2)])
def test_partners_are_the_same_for_any_number_of_ranks(n: int, world_size: int) -> None:
    batch = [(5, index) for index in range(10, 10 + n)]
    pairs = {}
    for rank in range(world_size):
        samples = with_partners(batch, rank, world_size)
        own = [sample for sample in samples if sample[2] >= 0]
        assert [sample[:2] for sample in own] == batch[rank::world_size]
        pairs.update((sample[1], samples[sample[2]][1]) for sample in own)
        if n % (2 * world_size) == 0:
            assert len(own) == len(samples), "no image is loaded twice"
    assert pairs == {index: 10 + (index - 10 + n // 2) % n for index in range(10, 10 + n)}
    assert n == 1 or all(own != partner for own, partner in pairs.items())


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [8, 6])
def test_ranks_mix_what_one_process_mixes(batch_size: int, workers: int) -> None:
    data = ImageDataModule(
        "fake", num_classes=3, size=20, crop=16, batch_size=batch_size, num_workers=workers, mix=MixUpCutMix()
    )
    data.setup()
    dataset: Any = data.loader("train", training=True).dataset
    sampler = EpochSampler(len(data.splits["train"]), 0, shuffle=True)

    def inputs(batch: Any) -> tuple[Tensor, Tensor]:
        images, labels, rand, partners = batch
        return data.mix_with_partners(data.preprocess(images, rand), labels, rand, partners)

    alone = [inputs(batch) for batch in data.loader("train", training=True)]
    assert len(alone) == -(-len(sampler) // batch_size)
    for rank in range(2):
        batches = ShardedBatchSampler(sampler, batch_size, rank, 2, paired=True)
        for (x, labels), samples in zip(alone, batches, strict=True):
            mine, my_labels = inputs(dataset.__getitems__(samples))
            assert torch.equal(mine, x[rank::2])
            assert torch.equal(my_labels, labels[rank::2])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_of_the_beta_distribution(alpha: float) -> None:
    assert kstest(shares(MixUp(alpha)).numpy(), beta(alpha, alpha).cdf).pvalue > 0.01


class OneShare(v2.MixUp):
    """torchvision's, with the share that is given as alpha."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        params: dict[str, Any] = super().make_params(flat_inputs)
        return params | {"lam": self.alpha}


def test_mixup_is_torchvisions() -> None:
    x = torch.from_numpy(DRAW.random((2, 3, 5, 6), np.float32))
    for i in range(10):
        rand = RAND[i : i + 1].expand(2, -1)
        mixed, labels = MixUp(0.5)((x, x.roll(1, 0)), (torch.eye(2), torch.eye(2).roll(1, 0)), rand)
        expected, expected_labels = OneShare(num_classes=2, alpha=float(labels[0, 0]))(x, torch.arange(2))
        torch.testing.assert_close(mixed, expected)
        torch.testing.assert_close(labels, expected_labels)


def test_cutmix_pixel_by_pixel() -> None:
    """By the paper's algorithm, with torchvision's rounding."""
    height, width = 11, 8
    own, partner = torch.zeros(400, 2, height, width), torch.ones(400, 2, height, width)
    mixed, labels = CutMix(0.7)((own, partner), LABELS, RAND)
    kept = beta(0.7, 0.7).ppf((np.floor(draws("mix_share").numpy() * 4096) + 0.5) / 4096)
    for i in range(400):
        half = 0.5 * np.sqrt(1 - kept[i])
        row, column = int(draws("mix_top")[i] * height), int(draws("mix_left")[i] * width)
        expected = torch.zeros(height, width)
        top, left = max(row - int(half * height), 0), max(column - int(half * width), 0)
        expected[top : row + int(half * height), left : column + int(half * width)] = 1
        assert torch.equal(mixed[i], expected.expand(2, -1, -1))
        share = 1 - expected.mean()
        torch.testing.assert_close(labels[i], LABELS[0][i] * share + LABELS[1][i] * (1 - share))


def test_one_of_the_two_by_chance() -> None:
    own, partner = torch.zeros(400, 1, 16, 16), torch.ones(400, 1, 16, 16)
    both, _ = MixUpCutMix(0.4, 2.0, cutmix=0.25)((own, partner), LABELS, RAND)
    mixup, cutmix = (mix((own, partner), LABELS, RAND)[0] for mix in (MixUp(0.4), CutMix(2.0)))
    of_cutmix = draws("mix_kind") < 0.25
    assert torch.equal(both[of_cutmix], cutmix[of_cutmix])
    assert torch.equal(both[~of_cutmix], mixup[~of_cutmix])


@pytest.mark.parametrize("kind", [MixUp, CutMix])
def test_some_images_stay_as_they_are(kind: Callable[..., Mix]) -> None:
    kept, every = shares(kind(prob=0.3)), shares(kind())
    chosen = draws("mix") < 0.3
    assert torch.equal(kept[chosen], every[chosen])
    assert (kept[~chosen] == 1).all()


def test_bfloat16_images_stay_bfloat16() -> None:
    x = torch.randn(2, 1, 4, 4).bfloat16()
    mixed, labels = MixUp()((x, x.roll(1, 0)), (torch.eye(2), torch.eye(2).roll(1, 0)), RAND[:2])
    assert (mixed.dtype, labels.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("loss", [CrossEntropy(0.1, [1, 2, 3, 4]), Focal(2.0, [1, 2, 3, 4])])
def test_a_soft_label_is_the_mean_of_its_classes(loss: nn.Module) -> None:
    logits = torch.from_numpy(DRAW.normal(0, 2, (7, 4)))
    loss = loss.double()
    a, b = torch.from_numpy(DRAW.integers(0, 4, (2, 7)))
    soft = 0.3 * torch.eye(4)[a].double() + 0.7 * torch.eye(4)[b].double()
    torch.testing.assert_close(loss(logits, soft), 0.3 * loss(logits, a) + 0.7 * loss(logits, b))
    torch.testing.assert_close(loss(logits, torch.eye(4)[a].double()), loss(logits, a))


@slow
def test_a_run_with_soft_labels(config: Callable[..., Any], tmp_path: Any) -> None:
    """It has every figure, and is the same run again; an image shown in TensorBoard is a mixed one."""
    results = []
    for name in ("a", "b"):
        cfg = config(
            *TINY, "mix=mixup_cutmix", "loss=focal", "metrics=f1", "trainer.precision=32-true", "data.batch_size=6",
            f"run_dir={tmp_path}/{name}",
        )  # fmt: skip
        train(cfg)
        results.append(torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True))
    assert {"train/loss", "train/top1", "train/f1"} <= results[0]["metrics"].keys()
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert results[0]["config"]["mix"]["_target_"] == "alexnet.data.mixing.MixUpCutMix"


def test_images_that_are_shown_are_mixed() -> None:
    plain, mixed = (ImageDataModule("fake", num_classes=3, size=20, crop=20, mix=mix) for mix in (None, MixUp(100.0)))
    for data in (plain, mixed):
        data.setup()
    a, b = plain.training_inputs(0, [0, 1]), mixed.training_inputs(0, [0, 1])
    assert (a - a.mean(0)).abs().mean() > 3 * (b - b.mean(0)).abs().mean(), "both are nearly the mean"
    torch.testing.assert_close(a.mean(0), b.mean(0), atol=0.3, rtol=0)


def one_label(images: Any, labels: Any, rand: Tensor) -> tuple[Tensor, Tensor]:
    return images[0][:1], labels[0]


def make_one_label() -> Any:
    return one_label


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mix=mixup", "mix.alpha=0"], "mix.alpha=0: must be a number"),
        (["mix=mixup_cutmix", "mix.cutmix_alpha=-1"], "mix.cutmix_alpha=-1: must be a number"),
        (["mix=cutmix", "mix.prob=2"], "mix.prob=2: must be a number"),
    ],
)
def test_mistakes(arguments: list[str], message: str, config: Callable[..., Any]) -> None:
    with pytest.raises((UserError, ArgumentError), match=message):
        build_components(config(*TINY, *arguments))


def test_what_does_not_go_together(config: Callable[..., Any]) -> None:
    cfg = config(*TINY)
    cfg.mix = OmegaConf.create({"_target_": "tests.data.test_mixing.make_one_label"})
    with pytest.raises(UserError, match="mix: must give as many images"):
        build_components(cfg)
    cfg = config(*TINY, "mix=mixup")
    cfg.loss = OmegaConf.create({"_target_": "torch.nn.MultiMarginLoss"})
    with pytest.raises(UserError, match="loss: takes no soft labels"):
        build_components(cfg)
