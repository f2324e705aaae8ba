"""The report of any set of runs: an answer in a sentence, a table, how much the runs could see, what to beware of, and
figures. A plain function over folders, so that it can be made at any time, of whatever is there.
"""

import math
import shlex
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from alexnet.checks import UserError, number
from alexnet.folders import read_json, write, write_csv, write_json
from alexnet.studies.compare import PAIRS, Comparison, compare
from alexnet.studies.figures import draw
from alexnet.studies.gradients import gradient_norms, lines
from alexnet.studies.runs import Arm, Run, arms_of_runs, find_runs, plan_of
from alexnet.studies.study import METRICS, check_metric
from alexnet.studies.until import is_until
from alexnet.studies.words import amount, duration, less_is_better, level, seeds_of, signed, table, unit

COST = ("parameters", "flops_per_image", "best_epoch", "epochs", "seconds", "images_per_second")
LOOKS = "report.json"  # how often a report was made here, and of how many seeds


def report(
    folders: Sequence[Path],
    out: Path | None = None,
    metric: str | None = None,
    margin: float | None = None,
    baseline: str | None = None,
) -> tuple[Path, str]:
    """Writes report.md, report.csv and the figures into `out`, or the folder itself where there is only one. Gives
    that folder, and the answer and its tables as text.

    Args:
        metric: what is compared; the study's own by default, and test/top1 without a study.
        margin: the smallest difference that would matter, in the metric's unit; the study's own by default.
        baseline: the arm that the others are compared with; the study's first by default.

    Raises:
        UserError: where nothing can be said, and why.
    """
    runs = find_runs(folders)
    plan = plan_of(folders[0]) if len(folders) == 1 else {}
    study = next((run.config["study"] for run in reversed(runs) if run.config.get("study")), None) or {}
    study = study if plan else {}
    metric, own = metric or study.get("metric") or METRICS[0], study.get("metric")
    try:
        check_metric(metric)
        if margin is not None:
            number("margin", margin, 0, above=True)
        elif metric == own:
            margin = study.get("margin")
        if margin is not None and is_until(metric):
            margin = math.log2(number("margin", margin, 1, above=True))
    except ValueError as error:
        raise UserError(str(error)) from None
    done = [run for run in runs if run.state == "done"]
    if not done:
        raise UserError(f"{folders[0]}: none of its {len(runs)} runs is finished{_why(runs)}")
    _check_alike(done)
    arms, left_out = arms_of_runs(runs, plan)
    if baseline is not None:
        names = [arm.name for arm in arms]
        if baseline not in names:
            raise UserError(f"baseline={baseline}: must be one of {'; '.join(names)}")
        arms.sort(key=lambda arm: arm.name != baseline)
    if not arms[0].runs:
        first = next(arm.name for arm in arms if arm.runs)
        left_out.append(f"{arms[0].name} has no finished run, so the others are compared with {first}")
    arms.sort(key=lambda arm: not arm.runs)
    if not any(math.isfinite(run.value(metric)) for run in done):
        raise UserError(f"{metric}: none of the {len(done)} finished runs has such a figure")
    found = compare([arm for arm in arms if arm.runs], metric, margin)

    if out is None:
        out = folders[0] if len(folders) == 1 else Path("outputs") / f"report-{date.today()}"
    out.mkdir(parents=True, exist_ok=True)
    notes = [*found.notes, *left_out, *_missing(arms, plan), *_doubts(arms, metric), *_looks(out, found)]
    paper = (study.get("paper") or {}) if metric == own else {}
    if is_until(metric):
        paper = {arm: math.log2(times) for arm, times in paper.items()}
    head = [f"# {study.get('question') or 'Runs compared'}", "", answer(found, arms)]
    tables = [*_differences(found, paper), "", found.method, *_power(found, margin)]
    claim = [f"The paper: {study['claim']} ({study.get('source')})."] if study.get("claim") else []
    if paper:
        of = study.get("paper_of") or "ImageNet"
        claim.append(f"Its figures are of {of}: for other pictures they stand for their sign, not their size.")
    norms = gradient_norms(arms)
    figures = draw(out, found, arms, paper, norms)
    cost = [*lines(norms), "", *_cost(arms)]
    beware = ["", "## To beware of", "", *(f"- {note}" for note in notes)] if notes else []
    pictures = ["", "## Figures", "", *(f"![{text}]({name}.png)\n" for name, text in figures.items())]
    commits = sorted({(run.record.get("git_commit") or "no commit")[:7] for run in done})
    made = f"Made of {len(done)} runs, each a row of [report.csv](report.csv), at {', '.join(commits)}"
    typed = [_anywhere(word) for word in plan.get("typed", ()) if not word.startswith(("outputs=", "data.cache_dir="))]
    last = ["", made + (f", by `python train.py {shlex.join(typed)}`." if typed else ".")]
    text = [*head, "", *tables, *beware, *([""] if claim else []), *claim, *cost, *pictures, *last]
    write(out / "report.md", "\n".join(text) + "\n")
    _write_csv(out / "report.csv", arms)
    said = "\n".join([answer(found, arms), "", *tables, *(f"  ! {note}" for note in notes), *cost])
    return out, said


def _anywhere(word: str) -> str:
    """What was typed, for a machine where the pictures lie elsewhere."""
    return "data.root=FOLDER" if word.startswith("data.root=") else word


def answer(found: Comparison, arms: Sequence[Arm]) -> str:
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
        return f"{row.arm} against {base}: {verdict}, in {metric}."
    if not any(row.difference for row in found.rows):
        return f"No verdict on {len(found.rows) + 1} arms: it takes three seeds or more of each.{_chosen(arms)}"
    by_verdict: dict[str, list[str]] = {}
    for row in found.rows:
        by_verdict.setdefault(row.verdict.split(":")[0], []).append(row.arm)
    parts = [f"{verdict}: {', '.join(names)}" for verdict, names in sorted(by_verdict.items(), key=_weight)]
    return f"Against {base}, in {metric}: {'; '.join(parts)}."


def _chosen(arms: Sequence[Arm]) -> str:
    """Which arm the validation pictures chose, as a search does."""
    runs = [(arm.name, run) for arm in arms for run in arm.runs.values()]
    monitor, mode = runs[0][1].config["monitor"], runs[0][1].config.get("mode", "max")
    if {run.config["monitor"] for _, run in runs} != {monitor}:
        return ""
    name, run = (max if mode == "max" else min)(runs, key=lambda pair: pair[1].value(monitor))
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
        interval = (
            "" if math.isnan(row.half) else " to ".join(signed(row.change + s * row.half, metric) for s in (-1, 1))
        )
        each = " ".join(signed(d, metric) for d in list(row.differences.values())[:10])
        each += f" ... {len(row.differences)}" if len(row.differences) > 10 else ""
        reached = [row.arm, str(len(row.values)), shown(row.mean, level), shown(row.sd, sd)]
        rows.append([*reached, shown(row.change, signed), interval, each])
        rows[-1].append(row.verdict.split(":")[0] if row.difference else row.verdict)
    change = "times" if is_until(metric) else "difference"
    header = ["arm", "n", unit(metric), "sd", change, "95% interval", "each seed's", "verdict"]
    if paper:
        header.insert(7, "paper")
        for cells in rows:
            cells.insert(7, signed(paper[cells[0]], metric) if cells[0] in paper else "")
    return table(header, rows)


def _power(found: Comparison, margin: float | None) -> list[str]:
    """What such runs could have seen, and how many seeds the margin takes."""
    seen = [(row, row.difference) for row in found.rows if row.difference and not math.isnan(row.half)]
    if not seen:
        return []
    least = amount(max(d.visible(row.arms, row.level) for row, d in seen), found.metric)
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


def _cost(arms: Sequence[Arm]) -> list[str]:
    rows = []
    for arm in arms:
        mean = {
            key: float(np.mean([r.metrics.get(key) or np.nan for r in arm.runs.values()] or [np.nan])) for key in COST
        }
        cells = [
            f"{mean['parameters']:,.0f}",
            f"{mean['flops_per_image'] / 1e9:.3g}",
            f"{mean['best_epoch']:.1f} of {mean['epochs']:.0f}",
            duration(mean["seconds"]),
            f"{mean['images_per_second']:.1f}",
        ]
        rows.append([arm.name, str(len(arm.runs)), *(["" for _ in cells] if not arm.runs else cells)])
    return table(["arm", "runs", "parameters", "GFLOP an image", "best epoch", "training", "images/s"], rows)


def _check_alike(runs: Sequence[Run]) -> None:
    """Refuses runs whose figures say nothing about each other."""
    data: dict[str, int] = {}
    for run in runs:
        known = run.record.get("data", {})
        name = f"{known.get('source')} with {known.get('pictures', {}).get('test')} test pictures"
        data[name] = data.get(name, 0) + 1
    if len(data) > 1:
        several = ", ".join(f"{name} ({count} runs)" for name, count in data.items())
        raise UserError(f"these runs are of different data, and cannot be compared: {several}")


def _missing(arms: Sequence[Arm], plan: dict[str, Any]) -> list[str]:
    """Runs that are not finished, and those that a study asked for and has not begun."""
    notes = []
    for arm in arms:
        for run in arm.unfinished:
            why = run.record.get("reason") if run.state == "failed" else None
            state = "still running" if run.state == "running" else run.state
            notes.append(f"{arm.name}, seed {run.seed}: {state}{f' ({why})' if why else ''}")
    begun = {(arm.name, seed) for arm in arms for seed in (*arm.runs, *(run.seed for run in arm.unfinished))}
    first: dict[str, str] = {}
    missing: dict[str, list[int]] = {}
    for job in plan.get("jobs", ()):
        twin = first.setdefault(job["asked"], job["arm"])
        if twin == job["arm"] and (job["arm"], job["seed"]) not in begun:
            missing.setdefault(job["arm"], []).append(job["seed"])
    notes += [f"{arm}, {seeds_of(seeds)}: not run yet" for arm, seeds in missing.items()]
    same = {job["arm"]: first[job["asked"]] for job in plan.get("jobs", ()) if first[job["asked"]] != job["arm"]}
    return [*notes, *(f"{arm} changes nothing here: it is the same as {other}" for arm, other in same.items())]


def _doubts(arms: Sequence[Arm], metric: str) -> list[str]:
    """What a reader should know of the runs before believing the figures."""
    runs, notes = [run for arm in arms for run in arm.runs.values()], []
    for arm in arms:
        chance, nothing, never = [], [], []
        for seed, run in arm.runs.items():
            value, share = run.value(metric), (5 if metric.endswith("top5") else 1) / run.config["data"]["num_classes"]
            pictures = run.record.get("data", {}).get("pictures", {}).get("test") or 1
            if math.isnan(value) and is_until(metric):
                never.append(f"seed {seed} in {run.metrics.get('epochs')}")
            elif math.isnan(value):
                nothing.append(seed)
            elif not less_is_better(metric) and value <= share + 2 * (share * (1 - share) / pictures) ** 0.5:
                chance.append(seed)
        if nothing:
            notes.append(f"{arm.name}, {seeds_of(nothing)}: {metric} is no number; left out")
        if never:
            notes.append(
                f"{arm.name} never reached {metric}: {', '.join(never)} epochs (censored). Left out, so that the "
                "figures favour this arm"
            )
        if chance:
            notes.append(f"{arm.name}, {seeds_of(chance)}: no better than chance; no interval survives such a run")
    for what, values in {
        "versions of the code": {(r.record.get("git_commit") or "none")[:7] for r in runs},
        "pictures": {(r.record.get("data", {}).get("fingerprint") or "")[:7] for r in runs},
        "precisions": {r.config["trainer"]["precision"] for r in runs},
        "devices": {", ".join(r.record.get("machine", {}).get("gpus", ())) or "CPU" for r in runs},
        "numbers of threads, which sum in another order": {
            str(r.record.get("machine", {}).get("threads")) for r in runs
        },
        "versions of torch": {r.record.get("packages", {}).get("torch", "") for r in runs},
        "figures that chose the best epoch": {r.config["monitor"] for r in runs},
    }.items():
        if len(values) > 1:
            notes.append(f"The runs are of different {what}: {', '.join(sorted(values))}")
    if any(run.record.get("git_dirty") for run in runs):
        notes.append("Some runs were of code that was not committed: their git.diff has it")
    if any(run.config["monitor"].startswith("train") for run in runs):
        notes.append("Without validation pictures, the best epoch was chosen on training figures")
    if len(arms) > 2:
        best = "the lowest" if less_is_better(metric) else "the highest"
        notes.append(
            f"These are test figures: {best} of {len(arms)} arms looks better than it is. Choose by validation."
        )
    return notes


def _looks(out: Path, found: Comparison) -> list[str]:
    """Notes that this report is made, once for every number of seeds."""
    seeds = max([len(row.differences) for row in found.rows], default=0)
    path = out / LOOKS
    looks = read_json(path).get("seeds", [])
    if seeds >= PAIRS and seeds not in looks:
        looks.append(seeds)
        write_json(path, {"seeds": looks})
    if len(looks) < 2:
        return []
    return [
        f"Reported with {', '.join(map(str, looks[:-1]))} and {looks[-1]} seeds. Adding seeds until a difference shows "
        "finds one where there is none: in 5% of studies looking once, in 12% at 3, 5 and 10 seeds"
    ]


def _why(runs: Sequence[Run]) -> str:
    failed = next((run for run in runs if run.record.get("reason")), None)
    if failed:
        return f"; {failed.folder.name} failed: {failed.record['reason']}"
    return "; it goes on now" if any(run.state == "running" for run in runs) else ""


def _write_csv(path: Path, arms: Sequence[Arm]) -> None:
    """A row for every run, finished or not."""
    rows: list[dict[str, Any]] = []
    for arm in arms:
        for run in (*arm.runs.values(), *arm.unfinished):
            row = {"arm": arm.name, "seed": run.seed, "state": run.state}
            for split in ("train", "val", "test"):
                row |= {f"{split}/{figure}": value for figure, value in run.metrics.get(split, {}).items()}
            row |= {key: value for key, value in run.metrics.items() if not isinstance(value, dict) and key != "seed"}
            row |= {key: run.record.get(key) for key in ("reason", "started", "git_commit", "precision")}
            rows.append(row | {"folder": run.folder.name})
    keys = list(dict.fromkeys(key for row in rows for key in row))
    write_csv(path, keys, rows)
