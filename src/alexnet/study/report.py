"""The report of any set of runs: an answer in a sentence, a table, the minimum detectable effect, caveats, and
figures. A plain function over folders, so that it can be made at any time, of whatever is there; it says nothing that
its own report.csv and report.json do not hold, and can be made again of these two without the runs.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet.errors import UserError
from alexnet.io import read_json, read_yaml, write, write_json
from alexnet.run_dir import dated_dir, make_dir
from alexnet.run_identity import portable_command
from alexnet.study.caveats import caveats, check_comparable, not_begun, unfinished
from alexnet.study.compare import PAIRS, Comparison, compare
from alexnet.study.figures import draw
from alexnet.study.gradients import gradient_norms, lines
from alexnet.study.metrics import DEFAULT, Metric, metric_of
from alexnet.study.records import Arm, arms_of_runs, find_runs, plan_of
from alexnet.study.summary import answer, costs, differences, power
from alexnet.study.table import TABLE, Result, arms_of_rows, read_rows, rows_of, write_rows
from alexnet.validation import check_float

ABOUT = "report.json"  # beside report.csv: what was asked, what was left out, and of how many seeds a report was made


@dataclass(frozen=True)
class StudyReport:
    """What was found, and what was asked: `about` is report.json."""

    found: Comparison
    arms: list[Arm[Result]]
    about: dict[str, Any]

    @property
    def study(self) -> dict[str, Any]:
        return self.about.get("study") or {}

    @property
    def paper(self) -> dict[str, float]:
        """The paper's differences by arm, where it has some for this metric: of these images, or else of others."""
        paper = self._of_data("paper") if self.found.metric.name == self.study.get("metric") else {}
        if not isinstance(paper, dict):  # of a run whose study did not say yet of which data set
            return {}
        return {arm: self.found.metric.transform(x) for arm, x in paper.items()}

    @property
    def claim(self) -> str:
        """What the paper says, and where; nothing where it does not."""
        claim = self._of_data("claim")
        return f"{claim} ({self.study['source']})" if claim else ""

    def _of_data(self, key: str) -> Any:
        """What the study has for these images, or else for the first that it names."""
        value = self.study.get(key) or {}
        return value.get(self.done[0]["source"], next(iter(value.values()), {})) if isinstance(value, dict) else value

    @property
    def done(self) -> list[Result]:
        return [run for arm in self.arms for run in arm.runs.values()]

    @property
    def command(self) -> str:
        """As it is typed on any machine; nothing outside a study."""
        return f"python train.py {shlex.join(self.about['typed'])}" if self.about.get("typed") else ""

    @property
    def images(self) -> str:
        """Which they are, and of what files."""
        each = {run["source"]: run["files"] for run in self.done}
        copies = {"jpg": " as JPEG files, slightly lossy", "": ""}  # of what the official archive has as it is
        own = ("folder", "stream", "imagenette", "imagenet")  # files from the beginning
        return ", ".join(source + ("" if source in own else copies.get(kind, f" as {kind} files"))
                         for source, kind in each.items())  # fmt: skip


def report(
    folders: Sequence[Path],
    out: Path | None = None,
    metric: str | None = None,
    margin: float | None = None,
    baseline: str | None = None,
    mode: str | None = None,
) -> tuple[Path, str]:
    """Writes report.md, report.csv, report.json and the figures into `out`, or the folder itself where there is only
    one. Returns that folder, and the answer and its tables as text.

    Args:
        folders: of runs, or one with the report.csv of an earlier report.
        metric: what is compared; the study's own by default, and test/top1 without a study.
        margin: the smallest difference that would matter, in the metric's unit; the study's own by default.
        baseline: the arm that the others are compared with; the study's first by default.
        mode: max or min, which way the metric is better; the study's own by default, see metrics.metric_of.

    Raises:
        UserError: where nothing can be said, and why.
    """
    rows, made = make_report(folders, metric, margin, baseline, mode)
    if out is None:
        out = folders[0] if len(folders) == 1 else _new_folder(folders)
    out.mkdir(parents=True, exist_ok=True)
    _count_looks(made, read_json(out / ABOUT) if len(folders) == 1 else {})
    write_rows(out / TABLE, rows)
    write_json(out / ABOUT, made.about)
    return out, write_page(out, made)


def _new_folder(folders: Sequence[Path]) -> Path:
    """Of a report on several folders: OUTPUTS/report/DATE_TIME, of the outputs that a run of the first was told."""
    config = read_yaml(next(folders[0].rglob("config.yaml")), dict)
    outputs = Path(config.get("outputs", "outputs"))
    return make_dir(dated_dir(outputs if outputs.is_dir() else "outputs", {"experiment": "report"}))[0]


def make_report(
    folders: Sequence[Path],
    metric: str | None = None,
    margin: float | None = None,
    baseline: str | None = None,
    mode: str | None = None,
) -> tuple[list[dict[str, str]], StudyReport]:
    """The rows of report.csv, and what they say. Arguments and errors as above."""
    old = folders[0] / TABLE
    if len(folders) == 1 and old.is_file() and not any(folders[0].rglob("config.yaml")):
        rows, about = read_rows(old), read_json(old.with_name(ABOUT))
        metric, mode, margin = _by_default(about, metric, mode, margin)
        baseline = baseline or about.get("baseline")
        chosen = _checked(metric, mode, margin)
    else:
        runs = find_runs(folders)
        plan = plan_of(folders[0]) if len(folders) == 1 else {}
        studies = [run.config["study"] for run in reversed(runs) if run.config.get("study")] if plan else []
        study = {key: value for key, value in studies[0].items() if key not in ("arms", "arm")} if studies else {}
        metric, mode, margin = _by_default(study, metric, mode, margin)
        chosen = _checked(metric, mode, margin)
        check_comparable([run for run in runs if run.state == "done"])
        arms, left_out = arms_of_runs(runs, plan)
        rows = rows_of(arms, chosen)
        about = {
            "study": study,
            "typed": portable_command(plan.get("typed", ())),
            "notes": [*left_out, *not_begun(arms, plan)],
        }
        about["seeds"] = read_json(folders[0] / ABOUT).get("seeds", [])
    about |= {"metric": metric, "mode": mode, "margin": margin, "baseline": baseline}
    return rows, StudyReport(*_compared(rows, chosen, margin, baseline, folders[0]), about)


def _by_default(
    before: Mapping[str, Any], metric: str | None, mode: str | None, margin: float | None
) -> tuple[str, str | None, float | None]:
    """What is asked, and else what `before`, a study or an earlier report, says of the same metric."""
    metric = metric or before.get("metric") or DEFAULT
    if metric == before.get("metric"):
        mode, margin = mode or before.get("mode"), before.get("margin") if margin is None else margin
    return metric, mode, margin


def _checked(name: str, mode: str | None, margin: float | None) -> Metric:
    try:
        metric = metric_of(name, mode)
        if margin is not None:
            check_float("margin", margin, metric.null_value, exclusive_min=True)
        return metric
    except ValueError as error:
        raise UserError(str(error)) from None


def _compared(
    rows: list[dict[str, str]], metric: Metric, margin: float | None, baseline: str | None, folder: Path
) -> tuple[Comparison, list[Arm[Result]]]:
    arms = arms_of_rows(rows)
    done = [run for arm in arms for run in arm.runs.values()]
    if not done:
        raise UserError(f"{folder}: none of its {len(rows)} runs is finished{_why(rows)}")
    names = [arm.name for arm in arms]
    if baseline is not None and baseline not in names:
        raise UserError(f"baseline={baseline}: must be one of {'; '.join(names)}")
    arms.sort(key=lambda arm: baseline not in (None, arm.name))
    first = next(arm.name for arm in arms if arm.runs)
    notes = []
    if first != arms[0].name:
        notes.append(f"{arms[0].name} has no finished run, so the others are compared with {first}")
    arms.sort(key=lambda arm: not arm.runs)
    if not any(math.isfinite(run.value(metric.name)) for run in done):
        raise UserError(f"{metric}: none of the {len(done)} finished runs has such a figure")
    found = compare([arm for arm in arms if arm.runs], metric, _in_unit(margin, metric))
    found.notes.extend(notes)
    return found, arms


def _in_unit(margin: float | None, metric: Metric) -> float | None:
    """Of the values that are compared: of epochs, logarithms."""
    return None if margin is None else metric.transform(margin)


def _count_looks(made: StudyReport, before: dict[str, Any]) -> None:
    """Notes that this report is made, once for every number of seeds."""
    seeds = max([len(row.differences) for row in made.found.rows], default=0)
    looks = {*made.about.get("seeds", ()), *before.get("seeds", ()), *([seeds] if seeds >= PAIRS else ())}
    made.about["seeds"] = sorted(looks)


def write_page(out: Path, made: StudyReport) -> str:
    """report.md and the figures. Returns what is said on a terminal."""
    found, arms, about, study = made.found, made.arms, made.about, made.study
    metric, margin = found.metric, _in_unit(about["margin"], found.metric)
    notes = [*found.notes, *about.get("notes", ()), *unfinished(arms), *caveats(arms, metric), *_looks(about)]
    head = [f"# {study.get('question') or 'Runs compared'}", "", answer(found, arms)]
    tables = [*differences(found, made.paper), "", found.method, *power(found, margin)]
    claim = [f"The paper: {made.claim}."] if made.claim else []
    if made.paper and made.done[0]["source"] in study["paper"]:
        claim.append("Its figures are of the same images, with a network and a training of its own.")
    elif made.paper:
        claim.append("Its figures are of other images: they stand here for their sign, not their size.")
    norms = gradient_norms(arms)
    figures = draw(out, found, arms, made.paper, norms)
    cost = [*lines(norms), "", *costs(arms)]
    beware = ["", "## Caveats", "", *(f"- {note}" for note in notes)] if notes else []
    images = ["", "## Figures", "", *(f"![{text}]({name}.png)\n" for name, text in figures.items())]
    commits = sorted({run["git_commit"][:7] or "no commit" for run in made.done})
    last = f"Made of {len(made.done)} runs on {made.images}, each a row of [{TABLE}]({TABLE}), at {', '.join(commits)}"
    last += f", by `{made.command}`." if made.command else "."
    text = [*head, "", *tables, *beware, *([""] if claim else []), *claim, *cost, *images, "", last]
    write(out / "report.md", "\n".join(text) + "\n")
    return "\n".join([answer(found, arms), "", *tables, *(f"  ! {note}" for note in notes), *cost])


def _looks(about: dict[str, Any]) -> list[str]:
    looks = about.get("seeds", [])
    if len(looks) < 2:
        return []
    return [
        f"Reported with {', '.join(map(str, looks[:-1]))} and {looks[-1]} seeds. Adding seeds until a difference shows "
        "finds one where there is none: in 5% of studies looking once, in 12% at 3, 5 and 10 seeds"
    ]


def _why(rows: Sequence[dict[str, str]]) -> str:
    failed = next((row for row in rows if row.get("reason")), None)
    if failed:
        return f"; {failed['folder']} failed: {failed['reason']}"
    return "; it is running" if any(row["state"] == "running" for row in rows) else ""
