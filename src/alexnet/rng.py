"""Random numbers that depend on what they are for, not on what was drawn before.

A result is then the same for any number of loader workers, after a restart, and whatever else is switched on or off.
"""

import hashlib

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # odd, 2^64 / golden ratio: the step of splitmix64


def generator(seed: int, name: str) -> torch.Generator:
    """Returns a generator that depends on `seed` and `name` alone."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def uniform(seed: int, epoch: int, index: ArrayLike, n: int) -> NDArray[np.float32]:
    """Returns `n` numbers in (0, 1) for each sample of `index`, (len(index), n): a pure function of the arguments.

    A counter hashed by the finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014): numpy has no generator
    that starts again for every sample of a batch at less than its cost.
    """
    with np.errstate(over="ignore"):
        key = _mix(_mix(np.full(1, seed, np.uint64) + GOLDEN) + np.uint64(epoch) * GOLDEN)
        rows = _mix(key + np.asarray(index, np.uint64) * GOLDEN)
        bits = _mix(rows[:, None] + np.arange(1, n + 1, dtype=np.uint64) * GOLDEN)
    return ((bits >> np.uint64(41)).astype(np.float32) + np.float32(0.5)) / np.float32(2**23)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
