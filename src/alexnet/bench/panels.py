"""What the panels of TensorBoard cost a run, each for itself, by Lightning's own profiler."""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pytorch_lightning.profilers import SimpleProfiler

from alexnet.pictures.panels import panels


class Seconds(SimpleProfiler):
    """Writes the seconds of every action so far, and of all since it was made, when Lightning asks for its report."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file, self.began = Path(file), time.perf_counter()

    def describe(self) -> None:
        found = {name: sum(durations) for name, durations in self.recorded_durations.items()}
        self.file.write_text(json.dumps(found | {"all": time.perf_counter() - self.began}), encoding="utf-8")


def run(*line: str) -> dict[str, float]:
    """Of `python train.py LINE`: seconds of each panel, and of `all` from the trainer to the end of the test."""
    with tempfile.TemporaryDirectory() as folder:
        watch = f"+trainer.profiler={{_target_: alexnet.bench.panels.Seconds, file: {folder}/seconds.json}}"
        command = [sys.executable, "train.py", *line, watch, f"folder={folder}/run"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads(Path(folder, "seconds.json").read_text(encoding="utf-8"))
    mine, totals = {type(panel).__name__ for panel in panels()}, Counter[str]()
    for action, seconds in found.items():
        name = action.removeprefix("[Callback]").split(".")[0]
        if action.startswith("[Callback]") and name in mine:
            totals[name] += seconds
    return dict(totals) | {"all": found["all"]}


def measure(*line: str) -> str:
    """A table of the default run's panels."""
    found = run(*line)
    whole = found.pop("all")
    lines = [f"{'panel':12}{'seconds':>9}{'share':>8}"]
    lines += [f"{name:12}{s:9.2f}{s / whole:8.2%}" for name, s in sorted(found.items(), key=lambda item: -item[1])]
    together = sum(found.values())
    return "\n".join([*lines, f"{'together':12}{together:9.2f}{together / whole:8.2%}  of {whole:.0f} s"])
