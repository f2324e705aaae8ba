"""The report of any set of runs: an answer in a sentence, a table, how much the runs could see, what to beware of, and
figures. A plain function over folders, so that it can be made at any time, of whatever is there; it says nothing that
its own report.csv and report.json do not hold, and can be made again of these two without the runs.
"""

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from alexnet.checks import UserError, number
from alexnet.folders import read_json, write, write_json
from alexnet.studies.compare import PAIRS, Comparison, Row, compare
from alexnet.studies.doubts import check_alike, doubts, not_begun, unfinished
from alexnet.studies.figures import draw
from alexnet.studies.gradients import gradient_norms, lines
from alexnet.studies.results import TABLE, Result, arms_of_rows, read_rows, rows_of, write_rows
from alexnet.studies.runs import Arm, arms_of_runs, find_runs, plan_of
from alexnet.studies.study import METRICS, check_metric
from alexnet.studies.until import is_until
from alexnet.studies.words import amount, duration, less_is_better, level, signed, table, unit

COST = ("parameters", "flops_per_image", "best_epoch", "epochs", "seconds", "images_per_second")
ABOUT = "report.json"  # beside report.csv: what was asked, what was left out, and of how many seeds a report was made


@dataclass(frozen=True)
class Report:
    """What was found, and what was asked: `about` is report.json."""

    found: Comparison
    arms: list[Arm[Result]]
    about: dict[str, Any]

    @property
    def study(self) -> dict[str, Any]:
        return self.about.get("study") or {}

    @property
    def paper(self) -> dict[str, float]:
        """The paper's differences by arm, where it has some for this metric: of these pictures, or else of others."""
        paper = self._of_data("paper") if self.found.metric == self.study.get("metric") else {}
        if not isinstance(paper, dict):  # of a run whose study did not say yet of which data set
            return {}
        return {arm: math.log2(x) if is_until(self.found.metric) else x for arm, x in paper.items()}

    @property
    def claim(self) -> str:
        """What the paper says, and where; nothing where it does not."""
        claim = self._of_data("claim")
        return f"{claim} ({self.study['source']})" if claim else ""

    def _of_data(self, key: str) -> Any:
        """What the study has for these pictures, or else for the first that it names."""
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
    def pictures(self) -> str:
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
) -> tuple[Path, str]:
    """Writes report.md, report.csv, report.json and the figures into `out`, or the folder itself where there is only
    one. Gives that folder, and the answer and its tables as text.

    Args:
        folders: of runs, or one with the report.csv of an earlier report.
        metric: what is compared; the study's own by default, and test/top1 without a study.
        margin: the smallest difference that would matter, in the metric's unit; the study's own by default.
        baseline: the arm that the others are compared with; the study's first by default.

    Raises:
        UserError: where nothing can be said, and why.
    """
    rows, made = made_of(folders, metric, margin, baseline)
    if out is None:
        out = folders[0] if len(folders) == 1 else Path("outputs") / f"report-{date.today()}"
    out.mkdir(parents=True, exist_ok=True)
    _count_looks(made, read_json(out / ABOUT))
    write_rows(out / TABLE, rows)
    write_json(out / ABOUT, made.about)
    return out, write_page(out, made)


def made_of(
    folders: Sequence[Path], metric: str | None = None, margin: float | None = None, baseline: str | None = None
) -> tuple[list[dict[str, str]], Report]:
    """The rows of report.csv, and what they say. Arguments and errors as above."""
    old = folders[0] / TABLE
    if len(folders) == 1 and old.is_file() and not any(folders[0].rglob("config.yaml")):
        rows, about = read_rows(old), read_json(old.with_name(ABOUT))
        metric = metric or about.get("metric") or METRICS[0]
        margin = about.get("margin") if margin is None and metric == about.get("metric") else margin
        baseline = baseline or about.get("baseline")
        _check(metric, margin)
    else:
        runs = find_runs(folders)
        plan = plan_of(folders[0]) if len(folders) == 1 else {}
        studies = [run.config["study"] for run in reversed(runs) if run.config.get("study")] if plan else []
        study = {key: value for key, value in studies[0].items() if key not in ("arms", "arm")} if studies else {}
        metric, own = metric or study.get("metric") or METRICS[0], study.get("metric")
        margin = study.get("margin") if margin is None and metric == own else margin
        _check(metric, margin)
        check_alike([run for run in runs if run.state == "done"])
        arms, left_out = arms_of_runs(runs, plan)
        rows = rows_of(arms, metric)
        about = {"study": study, "typed": _anywhere(plan), "notes": [*left_out, *not_begun(arms, plan)]}
        about["seeds"] = read_json(folders[0] / ABOUT).get("seeds", [])
    about |= {"metric": metric, "margin": margin, "baseline": baseline}
    return rows, Report(*_compared(rows, metric, margin, baseline, folders[0]), about)


def _anywhere(plan: dict[str, Any]) -> list[str]:
    """What was typed, without the folders of one machine."""
    typed = [word for word in plan.get("typed", ()) if not word.startswith(("outputs=", "data.cache_dir="))]
    return ["data.root=FOLDER" if word.startswith("data.root=") else word for word in typed]


def _check(metric: str, margin: float | None) -> None:
    try:
        check_metric(metric)
        if margin is not None:
            number("margin", margin, 1 if is_until(metric) else 0, above=True)
    except ValueError as error:
        raise UserError(str(error)) from None


def _compared(
    rows: list[dict[str, str]], metric: str, margin: float | None, baseline: str | None, folder: Path
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
    if not any(math.isfinite(run.value(metric)) for run in done):
        raise UserError(f"{metric}: none of the {len(done)} finished runs has such a figure")
    found = compare([arm for arm in arms if arm.runs], metric, _in_unit(margin, metric))
    found.notes.extend(notes)
    return found, arms


def _in_unit(margin: float | None, metric: str) -> float | None:
    """Of the values that are compared: of epochs, logarithms."""
    return math.log2(margin) if margin is not None and is_until(metric) else margin


def _count_looks(made: Report, before: dict[str, Any]) -> None:
    """Notes that this report is made, once for every number of seeds."""
    seeds = max([len(row.differences) for row in made.found.rows], default=0)
    looks = {*made.about.get("seeds", ()), *before.get("seeds", ()), *([seeds] if seeds >= PAIRS else ())}
    made.about["seeds"] = sorted(looks)


def write_page(out: Path, made: Report) -> str:
    """report.md and the figures. Gives what is said on a terminal."""
    found, arms, about, study = made.found, made.arms, made.about, made.study
    metric, margin = about["metric"], _in_unit(about["margin"], about["metric"])
    notes = [*found.notes, *about.get("notes", ()), *unfinished(arms), *doubts(arms, metric), *_looks(about)]
    head = [f"# {study.get('question') or 'Runs compared'}", "", answer(found, arms)]
    tables = [*_differences(found, made.paper), "", found.method, *_power(found, margin)]
    claim = [f"The paper: {made.claim}."] if made.claim else []
    if made.paper and made.done[0]["source"] in study["paper"]:
        claim.append("Its figures are of the same pictures, with a network and a training of its own.")
    elif made.paper:
        claim.append("Its figures are of other pictures: they stand here for their sign, not their size.")
    norms = gradient_norms(arms)
    figures = draw(out, found, arms, made.paper, norms)
    cost = [*lines(norms), "", *_cost(arms)]
    beware = ["", "## To beware of", "", *(f"- {note}" for note in notes)] if notes else []
    pictures = ["", "## Figures", "", *(f"![{text}]({name}.png)\n" for name, text in figures.items())]
    commits = sorted({run["git_commit"][:7] or "no commit" for run in made.done})
    last = (
        f"Made of {len(made.done)} runs on {made.pictures}, each a row of [{TABLE}]({TABLE}), at {', '.join(commits)}"
    )
    last += f", by `{made.command}`." if made.command else "."
    text = [*head, "", *tables, *beware, *([""] if claim else []), *claim, *cost, *pictures, "", last]
    write(out / "report.md", "\n".join(text) + "\n")
    return "\n".join([answer(found, arms), "", *tables, *(f"  ! {note}" for note in notes), *cost])


def answer(found: Comparison, arms: Sequence[Arm[Result]]) -> str:
    """One sentence, which says no more than the intervals do."""
    base = found.baseline.arm
    if not found.rows:
        return f"There is one arm alone, {base}: nothing to compare it with."
    metric, points = found.metric, "" if less_is_better(found.metric) else " points"
    if len(found.rows) == 1:
        row = found.rows[0]
        if row.verdict in ("better", "worse"):
            if is_until(metric):
                ends = " to ".join(signed(row.change + sign * row.half, metric)[:-1] for sign in (-1, 1))
                times = amount(row.change, metric)
                return f"{row.arm} takes {times} the epochs of {base} until {metric} ({ends})."
            low, high = sorted(abs(row.difference.mean + sign * row.half) for sign in (-1, 1))  # type: ignore[union-attr]
            mean = abs(row.difference.mean)  # type: ignore[union-attr]
            low, mean, high = (float(signed(x, metric)) for x in (low, mean, high))
            return f"{row.arm} is {row.verdict} than {base}, by {mean:g}{points} of {metric} ({low:g} to {high:g})."
        verdict = row.verdict + (points if row.verdict.startswith("not told") else "")
        verdict += f" ({interval(row, metric)})" if row.verdict.startswith("no difference") else ""
        return f"{row.arm} against {base}: {verdict}, in {metric}."
    if not any(row.difference for row in found.rows):
        return f"No verdict on {len(found.rows) + 1} arms: it takes three seeds or more of each.{_chosen(arms)}"
    by_verdict: dict[str, list[str]] = {}
    for row in found.rows:
        by_verdict.setdefault(row.verdict.split(":")[0], []).append(row.arm)
    parts = [f"{verdict}: {', '.join(names)}" for verdict, names in sorted(by_verdict.items(), key=_weight)]
    return f"Against {base}, in {metric}: {'; '.join(parts)}."


def _chosen(arms: Sequence[Arm[Result]]) -> str:
    """Which arm the validation pictures chose, as a search does."""
    runs = [(arm.name, run) for arm in arms for run in arm.runs.values()]
    monitor, mode = runs[0][1]["monitor"], runs[0][1]["mode"]
    if {run["monitor"] for _, run in runs} != {monitor}:
        return ""
    name, run = (min if mode == "min" else max)(runs, key=lambda pair: pair[1].value(monitor))
    return f" {monitor} chose {name} ({run.value(monitor):.4f})."


def _weight(item: tuple[str, list[str]]) -> int:
    order = ("better", "worse", "no difference", "not told apart", "no verdict")
    return next(i for i, start in enumerate(order) if item[0].startswith(start))


def _differences(found: Comparison, paper: dict[str, float]) -> list[str]:
    metric = found.metric

    def shown(value: float, how: Callable[[float, str], str]) -> str:
        return "" if math.isnan(value) else how(value, metric)

    def sd(value: float, metric: str) -> str:
        return signed(value, metric).removeprefix("+") if is_until(metric) else level(value, metric)

    first = found.baseline
    rows = [[first.arm, str(len(first.values)), shown(first.mean, level), shown(first.sd, sd)]]
    rows[0] += ["", "", "", "baseline"]
    for row in found.rows:
        each = " ".join(signed(d, metric) for d in list(row.differences.values())[:10])
        each += f" ... {len(row.differences)}" if len(row.differences) > 10 else ""
        reached = [row.arm, str(len(row.values)), shown(row.mean, level), shown(row.sd, sd)]
        rows.append([*reached, shown(row.change, signed), interval(row, metric), each])
        rows[-1].append(row.verdict.split(":")[0] if row.difference else row.verdict)
    change = "times" if is_until(metric) else "difference"
    header = ["arm", "n", unit(metric), "sd", change, "95% interval", "each seed's", "verdict"]
    if paper:
        header.insert(7, "paper")
        for cells in rows:
            cells.insert(7, signed(paper[cells[0]], metric) if cells[0] in paper else "")
    return table(header, rows)


def interval(row: Row, metric: str) -> str:
    """Both ends; nothing where there is none."""
    return "" if math.isnan(row.half) else " to ".join(signed(row.change + s * row.half, metric) for s in (-1, 1))


def _power(found: Comparison, margin: float | None) -> list[str]:
    """What such runs could have seen, and how many seeds the margin takes."""
    seen = [(row, row.difference) for row in found.rows if row.difference and not math.isnan(row.half)]
    if not seen:
        return []
    low, high = (end(d.visible(row.arms, row.level) for row, d in seen) for end in (min, max))
    least = amount(high, found.metric)
    if high > 1.5 * low:  # an arm has a spread of its own
        least = f"{amount(low, found.metric)}, of some arms {least},"
    said = f"Such runs tell a difference of {least} from none in four studies of five."
    if margin is not None:
        needed = [difference.seeds_needed(margin, row.arms, row.level) for row, difference in seen]
        low, high = (max(ends) for ends in zip(*needed, strict=True))
        said += f" A difference of {amount(margin, found.metric)}, which would matter, "
        if math.isinf(low):
            part = 1.96 * max(difference.pictures for _, difference in seen)
            said += f"is beyond any number of seeds: these test pictures alone leave +-{amount(part, found.metric)}."
        else:
            said += f"takes {low:.0f}{f' to {high:.0f}' if high > low else ''} seeds."
    return ["", said]


def _cost(arms: Sequence[Arm[Result]]) -> list[str]:
    rows = []
    for arm in arms:
        mean = {key: float(np.mean([run.value(key) for run in arm.runs.values()] or [np.nan])) for key in COST}
        cells = [
            f"{mean['parameters']:,.0f}",
            f"{mean['flops_per_image'] / 1e9:.3g}",
            f"{mean['best_epoch']:.1f} of {mean['epochs']:.0f}",
            duration(mean["seconds"]),
            f"{mean['images_per_second']:.1f}",
        ]
        rows.append([arm.name, str(len(arm.runs)), *(["" for _ in cells] if not arm.runs else cells)])
    return table(["arm", "runs", "parameters", "GFLOP an image", "best epoch", "training", "images/s"], rows)


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
    return "; it goes on now" if any(row["state"] == "running" for row in rows) else ""
