"""Makes the report of any set of runs.

It is a plain function over folders, so that it can be made at any time, of whatever is there. It says nothing that its
own report.csv and report.json do not hold, and can be made again of these two without the runs.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alexnet.errors import UserError, escape_control_chars
from alexnet.io import read_json, read_yaml, write_json
from alexnet.plotting import save
from alexnet.run_dir import dated_dir, make_dir
from alexnet.run_identity import digest, portable_command
from alexnet.study.errors import StudyError
from alexnet.study.metrics import Metric
from alexnet.study.report import (
    ABOUT,
    Additions,
    StudyReport,
    check_margin,
    compare_rows,
    look_at_rows,
    write_page,
)
from alexnet.study.table import read_rows
from alexnet.study_adapter.checks import check_comparable, idle_note, not_begun
from alexnet.study_adapter.gradients import drawings, gradient_norms, lines
from alexnet.study_adapter.metrics import DEFAULT, run_metric
from alexnet.study_adapter.records import Run, arms_of_runs, find_runs, plan_of
from alexnet.study_adapter.rows import TABLE, rows_of, write_rows
from alexnet.study_adapter.until import question_of


def report(
    folders: Sequence[Path],
    out: Path | None = None,
    metric: str | None = None,
    margin: float | None = None,
    baseline: str | None = None,
    mode: str | None = None,
) -> tuple[Path, str]:
    """Writes report.md, report.csv, report.json and the figures into a folder.

    Args:
        folders: of runs, or one with the report.csv of an earlier report.
        out: the folder of the report; made if it is not there. None: the runs' folder, where there is only one.
        metric: what is compared; the study's own by default, and test/top1 without a study.
        margin: the smallest difference that would matter, in the metric's unit; the study's own by default.
        baseline: the arm that the others are compared with; the study's first by default.
        mode: max or min, which way the metric is better; the study's own by default, see metrics.run_metric.

    Returns:
        The folder, and the answer and its tables as text.

    Raises:
        UserError: where nothing can be said, and why.
    """
    earlier = read_json(out / ABOUT) if out is not None and len(folders) == 1 else {}
    rows, made = make_report(folders, metric, margin, baseline, mode, earlier)
    if out is None:
        out = folders[0] if len(folders) == 1 else _new_folder(folders)
    out.mkdir(parents=True, exist_ok=True)
    write_rows(out / TABLE, rows)
    write_json(out / ABOUT, made.about)
    return out, write_run_page(out, made)


def write_run_page(out: Path, made: StudyReport) -> str:
    """Writes report.md and the figures, with what only runs have. Returns the text for the terminal."""
    norms = gradient_norms(made.arms)
    commits = sorted({run["git_commit"][:7] or "no commit" for run in made.done})
    origin = f": {images_of(made)}, {_machines_of(made)}, at {', '.join(commits)}"
    command = command_of(made)
    if command:
        origin += f", by `{command}`"
    additions = Additions(idle_note(made.arms), lines(norms), drawings(norms), origin)
    return write_page(out, made, TABLE, additions, save)


def command_of(made: StudyReport) -> str:
    """Returns the study's command as typed on any machine; nothing outside a study."""
    typed = made.about.get("typed")
    return f"python train.py {shlex.join(typed)}" if typed else ""


def images_of(made: StudyReport) -> str:
    """Returns the data set of the runs, and the kind of its files."""
    kinds = {run["source"]: run["files"] for run in made.done}
    return ", ".join(_described(source, kind) for source, kind in kinds.items())


def _machines_of(made: StudyReport) -> str:
    """Returns the precisions and devices of the runs, and of a CPU the instruction set."""
    kinds = set()
    for run in made.done:
        device = run["devices"]
        if device == "CPU" and run["instructions"]:
            device += f" ({run['instructions']})"
        kinds.add(f"{run['precision']} on {device}")
    return ", ".join(sorted(kinds))


def _described(source: str, kind: str) -> str:
    """Describes images. Files of a lossy kind are mentioned if the official archive has none."""
    if source in ("folder", "stream", "imagenette", "imagenet") or not kind:  # files from the beginning
        return source
    return f"{source} as JPEG files, slightly lossy" if kind == "jpg" else f"{source} as {kind} files"


def _new_folder(folders: Sequence[Path]) -> Path:
    """Returns OUTPUTS/report/DATE_TIME for a report on several folders, in the first run's `outputs`."""
    config = read_yaml(next(folders[0].rglob("config.yaml")), dict)
    outputs = Path(config.get("outputs", "outputs"))
    if not outputs.is_dir():
        outputs = Path("outputs")
    return make_dir(dated_dir(outputs, {"experiment": "report"}))[0]


def make_report(
    folders: Sequence[Path],
    metric: str | None = None,
    margin: float | None = None,
    baseline: str | None = None,
    mode: str | None = None,
    earlier: Mapping[str, Any] | None = None,
) -> tuple[list[dict[str, str]], StudyReport]:
    """Returns the rows of report.csv, and the report on them. Arguments and errors as in `report`.

    earlier: report.json of an earlier report, beside the one in the folder itself.
    """
    try:
        return _make_report(folders, metric, margin, baseline, mode, earlier or {})
    except StudyError as error:
        raise UserError(escape_control_chars(str(error))) from None


def _make_report(
    folders: Sequence[Path],
    metric: str | None,
    margin: float | None,
    baseline: str | None,
    mode: str | None,
    earlier: Mapping[str, Any],
) -> tuple[list[dict[str, str]], StudyReport]:
    old = folders[0] / TABLE
    from_table = len(folders) == 1 and old.is_file() and not any(folders[0].rglob("config.yaml"))
    if from_table:
        before = about = read_json(old.with_name(ABOUT))
        rows = read_rows(old)
        chosen, metric, mode, margin = _asked(before, metric, mode, margin)
        baseline = baseline or about.get("baseline")
        about["seeds"] = [*about.get("seeds", ()), *earlier.get("seeds", ())]
    else:
        runs = find_runs(folders)
        plan = plan_of(folders[0]) if len(folders) == 1 else {}
        question = question_of(plan, [job["config_digest"] for job in plan.get("jobs", ())])
        before = _study_of(runs, plan, question)
        headline = runs[0].config.get("headline")
        if headline and not before:
            before = {"metric": f"test/{headline}"}
        chosen, metric, mode, margin = _asked(before, metric, mode, margin)
        check_comparable([run for run in runs if run.state == "done"])
        arms_of_all, left_out = arms_of_runs(runs, plan)
        rows = rows_of(arms_of_all, chosen)
        about = {"study": before, "typed": portable_command(plan.get("typed", ()))}
        about["notes"] = [*left_out, *not_begun(arms_of_all, plan)]
        asked = digest(arms_of_all[0].settings)
        kept = [read_json(folders[0] / ABOUT), earlier] if len(folders) == 1 else []
        about["reported"] = _reported(kept, asked)
        about["seeds"] = about["reported"][asked]
        about |= _until(question)
    if not any(row.get("state", "done") == "done" for row in rows):
        raise UserError(f"{folders[0]}: none of its {len(rows)} runs is finished{_why(rows)}")
    about |= {"metric": metric, "mode": mode, "margin": margin, "baseline": baseline}
    until = about.get("until")
    if until and margin is not None:
        found, arms, looks = look_at_rows(rows, chosen, margin, until, baseline)
        return rows, StudyReport(found, arms, about, looks)
    found, arms, seeds = compare_rows(rows, chosen, margin, baseline, about["seeds"])
    about["seeds"][:] = seeds  # the list of this question in about["reported"]
    return rows, StudyReport(found, arms, about)


def _reported(reports: Sequence[Mapping[str, Any]], asked: str) -> dict[str, list[int]]:
    """Returns the numbers of seeds of earlier reports, by the digest of the baseline's settings.

    A folder has the runs of several questions.

    Args:
        reports: the earlier ones.
        asked: the digest of this question, which also has the seeds of reports that do not say of what.
    """
    found: dict[str, set[int]] = {asked: set()}
    for about in reports:
        by_question = about.get("reported", {asked: about.get("seeds", [])})
        for key, seeds in by_question.items():
            found.setdefault(key, set()).update(seeds)
    return {key: sorted(seeds) for key, seeds in found.items()}


def _until(question: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what report.json holds about a study until it is answered; nothing for any other."""
    if not question["asked"]:
        return {}
    kept = {key: question[key] for key in ("asked", "max_seeds", "left_out")}
    return {"until": {"arms": question["asked"][-1]["arms"], **kept}}


def _study_of(runs: Sequence[Run], plan: Mapping[str, Any], question: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the study of the latest run in a study's folder, without its arms; empty for any other folder."""
    studies = [run.config["study"] for run in reversed(runs) if run.config.get("study")] if plan else []
    if not studies:
        return {}
    study = {key: value for key, value in studies[0].items() if key not in ("arms", "arm")}
    if question["asked"]:
        study |= {key: question["asked"][-1][key] for key in ("metric", "mode", "margin")}
    return study


def _asked(
    before: Mapping[str, Any], name: str | None, mode: str | None, margin: float | None
) -> tuple[Metric, str, str | None, float | None]:
    """Returns the question that is asked now, or else that of `before`, an earlier report, on the same metric.

    Returns:
        The metric, its name and mode, and the margin.
    """
    name = name or before.get("metric") or DEFAULT
    if name == before.get("metric"):
        mode = mode or before.get("mode")
        margin = before.get("margin") if margin is None else margin
    return _checked(name, mode, margin), name, mode, margin


def _checked(name: str, mode: str | None, margin: float | None) -> Metric:
    try:
        metric = run_metric(name, mode)
        check_margin(margin, metric)
        return metric
    except ValueError as error:
        raise UserError(str(error)) from None


def _why(rows: Sequence[Mapping[str, str]]) -> str:
    failed = next((row for row in rows if row.get("reason")), None)
    if failed:
        return f"; {failed['folder']} failed: {failed['reason']}"
    return "; it is running" if any(row["state"] == "running" for row in rows) else ""
