"""One small trained network, which the tests of this package share."""

from pathlib import Path

import pytest

from tests.conftest import SMOKE, Once, options, train_py


@pytest.fixture(scope="session")
def run(once: Once) -> Path:
    """In float32, with all test images."""
    if "digits" not in options("data"):
        pytest.skip("the digits are gone")
    line = (*SMOKE, "trainer.limit_test_batches=1.0", "trainer.limit_train_batches=20", "trainer.accelerator=cpu")
    return once("evaluated", lambda path: train_py(*line, "trainer.precision=32-true", f"run_dir={path}/run")) / "run"
