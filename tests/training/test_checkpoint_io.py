import errno
import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet.training.checkpoint_io import WholeCheckpoints


def test_a_write_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, original = tmp_path / "checkpoints" / "last.ckpt", torch.save
    WholeCheckpoints().save_checkpoint({"step": 1}, path)
    beside: list[str] = []

    def full(checkpoint: Any, file: Any) -> None:
        buffer = io.BytesIO()
        original(checkpoint, buffer)
        file.write(buffer.getvalue()[:100])
        beside.extend(p.name for p in path.parent.iterdir())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"No space left on device: .*last\.ckpt"):
        WholeCheckpoints().save_checkpoint({"step": 2}, path)
    assert all(re.fullmatch(r"(\.last\.ckpt\.\w+\.part)|last\.ckpt", name) for name in beside), "nowhere else"
    assert len(beside) == 2
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]
    assert torch.load(path, weights_only=True) == {"step": 1}
