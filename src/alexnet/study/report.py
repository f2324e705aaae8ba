"""The report on a table of runs. It says nothing that is not in the table and report.json.

An answer in a sentence, the differences, the minimum detectable effect, caveats, costs and figures.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from alexnet.study.caveats import caveats, unfinished
from alexnet.study.compare import PAIRS, Comparison, compare
from alexnet.study.errors import StudyError
from alexnet.study.figures import Drawing, draw, save
from alexnet.study.files import write_text
from alexnet.study.intervals import EVERY_LOOK
from alexnet.study.looks import ending, looks_drawing, looks_notes, looks_table, plan_line, with_question
from alexnet.study.metrics import Metric
from alexnet.study.sequential import Looks, first_look, found_at_looks, later_looks, replay, seeds_in_order
from alexnet.study.summary import answer, costs, differences, power
from alexnet.study.table import Arm, Result, arms_of_rows, finished

PAGE = "report.md"
ABOUT = "report.json"  # beside the page: what was asked, what was left out, and of how many seeds a report was made


@dataclass(frozen=True)
class StudyReport:
    """The results of a study, and its question.

    Attributes:
        about: report.json. metric, mode, margin and baseline as they were asked; notes: what was left out; seeds: of
            how many a report was made; study: question, claim, source and the paper's differences, each optional;
            until: of a study that runs until it is answered, see look_at_rows.
        looks: those at a study that runs until it is answered.
    """

    found: Comparison
    arms: list[Arm]
    about: dict[str, Any]
    looks: Looks | None = None

    @property
    def study(self) -> dict[str, Any]:
        """The study that was run; empty for runs outside one."""
        return self.about.get("study") or {}

    @property
    def paper(self) -> dict[str, float]:
        """The paper's differences by arm, if it has some for this metric, on these images or else on others."""
        if self.found.metric.name != self.study.get("metric"):
            return {}
        paper = self._of_data("paper")
        if not isinstance(paper, dict):  # of a run whose study did not say yet of which data set
            return {}
        return {arm: self.found.metric.transform(x) for arm, x in paper.items()}

    @property
    def has_figures_of_these_images(self) -> bool:
        """Whether the paper's differences, if any, are of the same images."""
        return self.done[0]["source"] in (self.study.get("paper") or {})

    @property
    def claim(self) -> str:
        """The paper's claim and its source; empty without one."""
        claim = self._of_data("claim")
        return f"{claim} ({self.study['source']})" if claim else ""

    def _of_data(self, key: str) -> Any:
        """Returns what the study has for these images, or else for the first data set that it names."""
        value = self.study.get(key) or {}
        if not isinstance(value, dict):
            return value
        any_data: Any = next(iter(value.values()), {})
        return value.get(self.done[0]["source"], any_data)

    @property
    def done(self) -> list[Result]:
        """The finished runs."""
        return finished(self.arms)


@dataclass(frozen=True)
class Additions:
    """What the maker of a table knows beyond the table.

    Attributes:
        caveats: lines under that heading.
        tables: lines of Markdown above the table of costs.
        drawings: further figures.
        origin: what the runs were of, and how they were made; ends the page's last sentence.
    """

    caveats: Sequence[str] = ()
    tables: Sequence[str] = ()
    drawings: Sequence[Drawing] = field(default_factory=list)
    origin: str = ""


def check_margin(margin: float | None, metric: Metric) -> None:
    """Raises StudyError for a margin that is no difference, in the unit in which it is typed."""
    if margin is None:
        return
    number = isinstance(margin, int | float) and not isinstance(margin, bool) and math.isfinite(margin)
    if not number or margin <= metric.null_value:
        raise StudyError(f"margin={margin}: must be a number above {metric.null_value:g}")


def compare_rows(
    rows: Sequence[Mapping[str, str]],
    metric: Metric,
    margin: float | None = None,
    baseline: str | None = None,
    earlier: Collection[int] = (),
) -> tuple[Comparison, list[Arm], list[int]]:
    """Compares the arms of a table.

    Args:
        rows: a row for every run.
        metric: what is compared.
        margin: the smallest difference that would matter, in the unit in which it is typed.
        baseline: the arm that the others are compared with; None for the first.
        earlier: of how many seeds reports were made before. A second look has wider intervals, as all later ones.

    Returns:
        What was found; the arms, the baseline first and last those without a finished run; and of how many seeds
        reports were made, with this one.

    Raises:
        StudyError: where nothing can be compared, and why.
    """
    arms = arms_of_rows(rows)
    _set_first(arms, baseline)
    _check_values(arms, metric)
    asked = arms[0].name
    arms.sort(key=lambda arm: not arm.runs)
    with_runs = [arm for arm in arms if arm.runs]
    found = compare(with_runs, metric, in_unit(margin, metric))
    seeds = max((len(row.differences) for row in found.rows), default=0)
    looks = sorted(set(earlier))
    if seeds >= PAIRS:
        looks = sorted({*earlier, seeds})
    if len(looks) > 1:
        found = compare(with_runs, metric, in_unit(margin, metric), confidence=EVERY_LOOK)
    if arms[0].name != asked:
        found.notes.append(f"{asked} has no finished run, so the others are compared with {arms[0].name}")
    return found, arms, looks


def look_at_rows(
    rows: Sequence[Mapping[str, str]],
    metric: Metric,
    margin: float,
    until: Mapping[str, Any],
    baseline: str | None = None,
    seeds: Sequence[int] | None = None,
) -> tuple[Comparison, list[Arm], Looks]:
    """Looks at a table as at a study that ran until it was answered. Returns the results, the arms, and the looks.

    Args:
        rows: a row for every run.
        metric: what is compared.
        margin: the smallest difference that would matter, in the unit in which it is typed.
        until: arms, the baseline first; max_seeds; left_out, the seeds that were passed over.
        baseline: the arm that the others are compared with; None for the first.
        seeds: in the order in which they are run, without those that were passed over; None for 1, 2, 3 and so on.

    Raises:
        StudyError: where nothing can be compared, and why.
    """
    by_name = {arm.name: arm for arm in arms_of_rows(rows)}
    arms = [by_name.get(name, Arm(name)) for name in until["arms"]]
    _set_first(arms, baseline)
    _check_values(arms, metric)
    if seeds is None:
        seeds = seeds_in_order(arms, until["left_out"])
    looks = replay(arms, metric, metric.transform(margin), seeds, until["max_seeds"])
    if looks.looks:
        return found_at_looks(looks), arms, looks
    first = f"no verdict: the first look is after {first_look(len(arms) - 1)} pairs"
    found = compare([arm for arm in arms if arm.runs], metric)
    rows_yet = [replace(row, difference=None, half=math.nan, verdict=first) for row in found.rows]
    return replace(found, rows=rows_yet, method="No interval before the first look.", notes=[]), arms, looks


def _check_values(arms: Sequence[Arm], metric: Metric) -> None:
    """Raises StudyError where no run has the metric, or where one has a value that it cannot have."""
    done = finished(arms)
    if not done:
        raise StudyError("none of the runs is finished")
    values = [run.value(metric.name) for run in done]
    if not any(map(math.isfinite, values)):
        raise StudyError(f"{metric}: none of the {len(done)} finished runs has such a metric")
    largest = np.nanmax(values)
    if type(metric) is Metric and largest > 1:
        raise StudyError(f"{metric}: {largest:g} is above 1; an accuracy is a share, or its column has another name")


def _set_first(arms: list[Arm], baseline: str | None) -> None:
    """Puts the baseline first. Raises StudyError if there is no such arm."""
    names = [arm.name for arm in arms]
    if baseline is not None and baseline not in names:
        raise StudyError(f"baseline={baseline}: must be one of {'; '.join(names)}")
    arms.sort(key=lambda arm: baseline not in (None, arm.name))


def write_page(
    out: Path,
    made: StudyReport,
    table: str,
    additions: Additions | None = None,
    save_figure: Callable[[Figure, Path], None] = save,
) -> str:
    """Writes report.md and its figures into a folder. Returns the text for the terminal.

    Args:
        out: the folder.
        made: the report.
        table: where the table lies, from that folder.
        additions: of whoever knows more of the runs.
        save_figure: writes a figure.
    """
    more = additions or Additions()
    found = made.found
    margin = in_unit(made.about["margin"], found.metric)
    notes = [*found.notes, *made.about.get("notes", ()), *unfinished(made.arms)]
    notes += [*caveats(made.arms, found.metric), *more.caveats, *_looks(made)]
    sentence = answer(found, made.arms)
    tables = [*differences(found, made.paper), "", f"{found.method}{_tested(made)}", *_precision(made, margin)]
    cost = [*more.tables, *costs(made.arms)]
    drawings = [*draw(found, made.arms, made.paper), *more.drawings]
    if made.looks and made.looks.looks and margin:
        drawings.insert(0, looks_drawing(made.looks, found.metric, margin))
    text = [f"# {made.study.get('question') or 'Runs compared'}", "", sentence, "", *tables]
    if notes:
        text += ["", "## Caveats", "", *(f"- {note}" for note in notes)]
    text += [*_claim(made), *cost]
    if made.looks and made.looks.looks:
        text += ["", "## Looks", "", plan_line(made.looks), "", *looks_table(made.looks, found.metric)]
    if drawings:
        text += ["", "## Figures", "", *(f"![{drawing.text}]({drawing.name}.png)\n" for drawing in drawings)]
    runs = f"{len(made.done)} run{'s' if len(made.done) > 1 else ''}"
    text += ["", f"Made of {runs}, each a row of [{table}]({table}){more.origin}."]
    for drawing in drawings:
        save_figure(drawing.figure, out / f"{drawing.name}")
    write_text(out / PAGE, "\n".join(text) + "\n")
    return "\n".join([sentence, "", *tables, *(f"  ! {note}" for note in notes), *cost])


def in_unit(margin: float | None, metric: Metric) -> float | None:
    """Returns a margin in the unit of the compared values: for epochs, logarithms."""
    return None if margin is None else metric.transform(margin)


def _claim(made: StudyReport) -> list[str]:
    lines = ["", f"The paper: {made.claim}."] if made.claim else []
    if made.paper and made.has_figures_of_these_images:
        lines.append("Its figures are of the same images, with a network and a training of its own.")
    elif made.paper:
        lines.append("Its figures are of other images: they stand here for their sign, not their size.")
    return lines


def _tested(made: StudyReport) -> str:
    return " The last epoch of every run was tested." if {run["test_epoch"] for run in made.done} == {"last"} else ""


def _precision(made: StudyReport, margin: float | None) -> list[str]:
    """Returns what the runs could detect, or why a study until it is answered ended."""
    if made.looks is None or margin is None:
        return power(made.found, margin)
    return ["", *(f"{sentence}." for sentence in ending(made.looks, margin))]


def _looks(made: StudyReport) -> list[str]:
    """Returns warnings about an answer that was looked for more than once."""
    before = made.about.get("seeds", [])
    if made.looks is not None:
        about, until, arms = made.about, made.about["until"], made.looks.arms
        question = about["metric"], about["mode"], about["margin"], arms
        asked = with_question(until["asked"], *question, made.looks.pairs)
        return looks_notes(made.looks, made.arms, made.found, until | {"asked": asked}, before)
    return [f"Reported with {_and(before)} seeds: {later_looks(before[0])}"] if len(before) > 1 else []


def _and(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
