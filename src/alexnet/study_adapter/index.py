"""docs/studies: a page for every report.csv that lies there in a folder of its own, and an index of them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from alexnet.errors import UserError
from alexnet.io import write
from alexnet.study.compare import Row
from alexnet.study.report import StudyReport, compare_rows, look_at_rows
from alexnet.study.sequential import MOST, Looks
from alexnet.study.summary import interval
from alexnet.study_adapter.checks import idle_norms
from alexnet.study_adapter.report import command_of, images_of, make_report, write_run_page
from alexnet.study_adapter.rows import TABLE

PAGES = Path("docs/studies")
HEAD = f"""# Studies that were run

`python report.py` makes this page and the others of the {TABLE} and report.json in each folder, a row for every run. In
its column *both right* the last number is how many test images the run had right, and those before it how many of
these each run above had right as well. `python report.py RUNS --out docs/studies/NAME` adds a study.

Intervals are of 95%, and those of a study hold together; where it was reported again with more seeds, or ran until it
was answered, they hold over all looks at it. Hours are of training alone, on whatever machine it was.

| question | the paper | here | n | images | hours | command |
|---|---|---|--:|---|--:|---|
"""
REPLAYS = """
## Replayed

Where these would have ended, had they run until they were answered (`study.until=answered`): after how many pairs each
arm has its answer, its seeds in their order, and whether all its seeds say the same, at 95%. Studies of several arms
with fewer than five seeds have no look yet, and are left out. [How many seeds?](how-many-seeds.md)

| study | arm | until answered | all seeds | pairs | agrees |
|---|---|---|---|--:|---|
"""


def write_pages(folder: Path = PAGES) -> list[Path]:
    """Makes every page and the index again. Returns the pages.

    Raises:
        UserError: where there is nothing to make them of.
    """
    tables = sorted(folder.glob(f"*/{TABLE}"))
    if not tables:
        raise UserError(f"{folder}: no {TABLE} in a folder there; name the folders of a study, a sweep, or runs")
    rows, replays = [], []
    for table in tables:
        runs, made = make_report([table.parent])
        write_run_page(table.parent, made)
        rows.append(_row(table.parent.name, made))
        replays += _replayed(table.parent.name, runs, made)
    write(folder / "README.md", HEAD + "".join(rows) + REPLAYS + "".join(replays))
    return [table.with_name("report.md") for table in tables]


def _row(name: str, made: StudyReport) -> str:
    study, rows = made.study, [made.found.baseline, *made.found.rows]
    command = command_of(made)
    seeds = sorted({len(row.values) for row in rows})
    cells = [
        f"[{study.get('question') or name}]({name}/report.md)",
        made.claim,
        "<br>".join(_here(made)),
        " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))),
        images_of(made),
        f"{sum(run.value('seconds') for run in made.done) / 3600:.2g}",
        f"`{command}`" if command else "",
    ]
    return f"| {' | '.join(cells)} |\n"


def _replayed(name: str, table: Sequence[Mapping[str, str]], made: StudyReport) -> list[str]:
    """Rows on a study that was run with a fixed number of seeds, a line for each arm but the baseline."""
    metric, margin = made.found.metric, made.about["margin"]
    if made.looks is not None or margin is None:
        return []
    arms = [made.found.baseline.arm, *(row.arm for row in made.found.rows)]
    seeds = sorted(set.intersection(*(set(arm.runs) for arm in made.arms if arm.name in arms)))
    until = {"arms": arms, "max_seeds": MOST, "left_out": []}
    _, _, looks = look_at_rows(table, metric, margin, until, seeds=seeds)
    if not looks.looks:
        return []
    fixed, _, _ = compare_rows(table, metric, margin, made.about["baseline"])
    return [f"| {' | '.join(_replayed_arm(name, looks, row))} |\n" for row in fixed.rows]


def _replayed_arm(name: str, looks: Looks, row: Row) -> list[str]:
    last = row.verdict.split(":")[0]
    cells = [f"[{name}]({name}/report.md)", row.arm]
    if row.arm in looks.answered:
        found = looks.answered[row.arm]
        agrees = "yes" if found.row.verdict == row.verdict else "no"
        return [*cells, f"{found.row.verdict} after {found.pairs}", last, str(len(row.values)), agrees]
    ended = f"given up after {looks.pairs}" if looks.gave_up else f"goes on after {looks.pairs}"
    return [*cells, ended, last, str(len(row.values)), ""]


def _here(made: StudyReport) -> list[str]:
    """The baseline, and what each other arm has changed."""
    found, metric = made.found, made.found.metric
    told = [f"{metric.unit}: {found.baseline.arm} {metric.level(found.baseline.mean)}"]
    for row in found.rows:
        within = f" ({interval(row, metric)})" if interval(row, metric) else ""
        change = f" {metric.signed(row.change)}{metric.points}{within}" if math.isfinite(row.change) else ""
        told.append(f"{row.arm}{change}: {row.verdict.split(':')[0]}")
    if 0 < len(idle := idle_norms(made.arms)) < len(made.arms):
        told.append(f"(LRN did next to nothing in {', '.join(idle)})")
    return told
