"""A callback that kills its own process where KILL=HOOK:N says: in the N-th call of that hook, or with KILL=write:N in
the middle of writing the N-th checkpoint. SIGNAL sends another signal than SIGKILL, and to the loader's workers too, as
a terminal does; in rank 0 of several, to the program that started them.
"""

import io
import multiprocessing
import os
import signal
import subprocess
from functools import partial
from typing import Any

import torch
from pytorch_lightning import Callback

HOOKS = (
    *("on_train_epoch_start", "on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end"),
    *("on_validation_start", "on_validation_batch_end", "on_validation_end", "on_train_epoch_end", "on_train_end"),
    *("on_test_start", "on_test_batch_end", "on_test_end"),
)


class Kill(Callback):
    def __init__(self) -> None:
        self.calls = dict.fromkeys((*HOOKS, "write"), 0)
        if os.environ.get("KILL", "").startswith("write"):
            torch.save = partial(self.half, torch.save)

    def half(self, save: Any, checkpoint: Any, file: Any) -> None:
        whole = io.BytesIO()
        save(checkpoint, whole)
        middle = whole.tell() // 2
        file.write(whole.getvalue()[:middle])
        file.flush()
        self.count("write")
        file.write(whole.getvalue()[middle:])

    def count(self, hook: str) -> None:
        self.calls[hook] += 1
        if os.environ.get("KILL") != f"{hook}:{self.calls[hook]}":
            return
        number, rank = int(os.environ.get("SIGNAL", signal.SIGKILL)), os.environ.get("RANK")
        if number == signal.SIGKILL or rank is None:
            for worker in multiprocessing.active_children() if number != signal.SIGKILL else ():
                subprocess.run(["kill", f"-{number}", str(worker.pid)], check=True)  # not from its parent
            os.kill(os.getpid(), number)
        elif rank == "0":
            program = multiprocessing.parent_process()
            assert program is not None
            assert program.pid is not None
            os.kill(program.pid, number)


def _counted(hook: str) -> Any:
    return lambda self, *_, **__: self.count(hook)


for name in HOOKS:
    setattr(Kill, name, _counted(name))
