"""Makes docs/studies: a page for every report.csv in a folder of its own there, and an index of them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from alexnet.errors import UserError
from alexnet.io import write
from alexnet.study.compare import Row
from alexnet.study.figures import save
from alexnet.study.report import StudyReport, compare_rows, look_at_rows
from alexnet.study.sequential import MOST, Looks
from alexnet.study.summary import interval
from alexnet.study_adapter.checks import idle_norms
from alexnet.study_adapter.forest import forest, in_points
from alexnet.study_adapter.report import command_of, images_of, make_report, write_run_page
from alexnet.study_adapter.rows import TABLE

PAGES = Path("docs/studies")
HEAD = f"""# Studies that were run

`python report.py` makes this page and the others of the {TABLE} and report.json in each folder, a row for every run. In
its column *both right* the last number is how many test images the run had right, and those before it how many of
these each run above had right as well. `python report.py RUNS --out docs/studies/NAME` adds a study, and NAME-again
repeats one.

Intervals are of 95%, and those of a study hold together; where it was reported again with more seeds, or ran until it
was answered, they hold over all looks at it. Hours are of training alone, on whatever machine it was. A command is of
the commit that its page names. Where the paper has a figure of the same images, *inside* and *outside* say whether it
lies in the interval.
"""
COLUMNS = """
| question | the paper | here | n | images | hours | command |
|---|---|---|--:|---|--:|---|
"""
LEAST = {"cifar10": 0.74}  # of test/top1: the paper's figures are of networks with 11 to 26% of error
TRAINED, UNDERTRAINED = "Trained", "Undertrained"
FIGURES = {TRAINED: "answers", UNDERTRAINED: "answers-undertrained"}
SECTIONS = {
    TRAINED: "",
    UNDERTRAINED: f"""
Runs of a minute or so. No arm comes to {LEAST["cifar10"]:.0%} on CIFAR-10, where the paper's networks have 11 to 26% of
error: these say what a part does to such runs, and nothing of the paper's claims.
""",
}
AGAIN = "-again"  # ends the name of the folder in which a study is repeated
REPEATS = """
## Repeated

The same question again, with other seeds, precision and instruction set, which the pages name. Two answers agree where
their difference is at most sqrt(a^2 + b^2), with a and b half the width of their intervals.

| study | arm | first | again | agree |
|---|---|---|---|---|
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
    studies: dict[str, dict[str, StudyReport]] = {TRAINED: {}, UNDERTRAINED: {}}
    replays = []
    for table in tables:
        runs, made = make_report([table.parent])
        write_run_page(table.parent, made)
        studies[TRAINED if _is_trained(made) else UNDERTRAINED][table.parent.name] = made
        replays += _replayed(table.parent.name, runs, made)
    page = [HEAD]
    for heading, found in studies.items():
        if found:
            page += _section(heading, _by_question(found), folder)
    if repeats := _repeats({name: made for found in studies.values() for name, made in found.items()}):
        page += [REPEATS, *repeats]
    write(folder / "README.md", "".join([*page, REPLAYS, *replays]))
    return [table.with_name("report.md") for table in tables]


def _section(heading: str, studies: Mapping[str, StudyReport], folder: Path) -> list[str]:
    """Draws the answers of studies. Returns their figure and their table as text."""
    shown = ""
    figure = forest(studies)
    if figure is not None:
        save(figure, folder / FIGURES[heading])
        shown = f"\n![Every difference with its interval, the margin, and the paper's figure]({FIGURES[heading]}.png)\n"
    rows = [_row(name, made) for name, made in studies.items()]
    return [f"\n## {heading}\n{SECTIONS[heading]}{shown}{COLUMNS}", *rows]


def _by_question(studies: Mapping[str, StudyReport]) -> dict[str, StudyReport]:
    return dict(sorted(studies.items(), key=lambda item: (str(item[1].study.get("question")), item[0])))


def _is_trained(made: StudyReport) -> bool:
    """Returns whether an arm is as accurate as the paper's networks, or the study asks for epochs to a target."""
    least = LEAST.get(made.done[0]["source"], 0.0)
    if not in_points(made):
        return True
    return any(arm.mean("test/top1") >= least for arm in made.arms if arm.runs)


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


def _repeats(studies: Mapping[str, StudyReport]) -> list[str]:
    """Returns a row for each arm of a study that was repeated, but the baseline."""
    lines = []
    for name, again in studies.items():
        original = name.removesuffix(AGAIN)
        if original == name or original not in studies:
            continue
        first = studies[original]
        earlier = {row.arm: row for row in first.found.rows}
        for row in again.found.rows:
            before = earlier.get(row.arm)
            if before is None or math.isnan(before.half) or math.isnan(row.half):
                continue
            agree = abs(row.change - before.change) <= math.hypot(row.half, before.half)
            links = f"[{original}]({original}/report.md), [again]({name}/report.md)"
            told = [_difference(first, before), _difference(again, row), "yes" if agree else "no"]
            lines.append(f"| {' | '.join([links, row.arm, *told])} |\n")
    return lines


def _replayed(name: str, table: Sequence[Mapping[str, str]], made: StudyReport) -> list[str]:
    """Returns rows on a study with a fixed number of seeds, one for each arm but the baseline."""
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
    """Returns the baseline, and each other arm's difference, as text."""
    found, metric = made.found, made.found.metric
    told = [f"{metric.unit}: {found.baseline.arm} {metric.level(found.baseline.mean)}"]
    told += [f"{row.arm} {_difference(made, row)}{_against_paper(made, row)}" for row in found.rows]
    if 0 < len(idle := idle_norms(made.arms)) < len(made.arms):
        told.append(f"(LRN did next to nothing in {', '.join(idle)})")
    return told


def _difference(made: StudyReport, row: Row) -> str:
    """Returns an arm's difference, its interval and its verdict, as text."""
    metric = made.found.metric
    within = f" ({interval(row, metric)})" if interval(row, metric) else ""
    change = f"{metric.signed(row.change)}{metric.points}{within}: " if math.isfinite(row.change) else ""
    return change + row.verdict.split(":")[0]


def _against_paper(made: StudyReport, row: Row) -> str:
    """Returns whether the paper's figure for these images lies in the interval; nothing without one."""
    if not made.has_figures_of_these_images or row.arm not in made.paper or math.isnan(row.half):
        return ""
    theirs = made.paper[row.arm]
    where = "inside" if abs(theirs - row.change) <= row.half else "outside"
    return f"; the paper's {made.found.metric.signed(theirs)} is {where}"
