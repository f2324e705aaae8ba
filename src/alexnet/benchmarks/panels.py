"""Measures what each of TensorBoard's panels costs a run, by Lightning's profiler."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from pytorch_lightning.profilers import SimpleProfiler

from alexnet.visualization.panels import panels


class Seconds(SimpleProfiler):
    """A profiler whose report is JSON: the seconds of every action, and of the whole time since it was made."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file, self.began = Path(file), time.perf_counter()

    def describe(self) -> None:
        found = {name: sum(durations) for name, durations in self.recorded_durations.items()}
        self.file.write_text(json.dumps(found | {"all": time.perf_counter() - self.began}), encoding="utf-8")


def run(*line: str) -> dict[str, float]:
    """Runs `python train.py LINE` with the profiler Seconds, and returns its report."""
    with tempfile.TemporaryDirectory() as folder:
        watch = f"+trainer.profiler={{_target_: alexnet.benchmarks.panels.Seconds, file: {folder}/seconds.json}}"
        command = [sys.executable, "train.py", *line, watch, f"run_dir={folder}/run"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found: dict[str, float] = json.loads(Path(folder, "seconds.json").read_text(encoding="utf-8"))
    return found


def table(found: Mapping[str, float]) -> str:
    """Returns the seconds of each panel, and their share of the time from the trainer's start to the test's end."""
    totals = {type(panel).__name__: 0.0 for panel in panels()}
    for action, seconds in found.items():
        name = action.removeprefix("[Callback]").split(".")[0]
        if action.startswith("[Callback]") and name in totals:
            totals[name] += seconds
    totals = dict(sorted(totals.items(), key=lambda item: -item[1])) | {"together": sum(totals.values())}
    lines = [f"{name:12}{seconds:9.2f}{seconds / found['all']:9.2%}" for name, seconds in totals.items()]
    return "\n".join([f"{'panel':12}{'seconds':>9}{'share':>9}", *lines, f"of {found['all']:.0f} s"])
