"""Reports on a table of runs: python -m alexnet.study results.csv --metric f1.

The table has a row for every run, and the columns arm, seed and any metrics, whatever trained the models. See
docs/compare-any-runs.md.
"""

import argparse
import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from alexnet.study.errors import StudyError
from alexnet.study.files import read_json, write_text
from alexnet.study.formatting import seeds_of
from alexnet.study.looks import with_question
from alexnet.study.metrics import Metric, metric_of
from alexnet.study.report import ABOUT, PAGE, StudyReport, check_margin, compare_rows, look_at_rows, write_page
from alexnet.study.sequential import FIRST, MOST, Looks, check_most
from alexnet.study.table import Arm, Result, arms_of_rows, read_rows

MANY = 30  # pairs at the most, where no number is asked for


def main() -> None:
    """Writes the report and prints its tables. Exits with 1 after a line on what is wrong with the table."""
    parser = argparse.ArgumentParser(prog="python -m alexnet.study", description=__doc__)
    parser.add_argument("table", type=Path, metavar="TABLE.csv", help="a row for every run; columns arm, seed, metrics")
    parser.add_argument("--metric", help="the column that is compared; else the only one there is")
    parser.add_argument("--mode", help="max or min: which way it is better; else max, and min for a loss")
    parser.add_argument("--margin", type=float, help="the smallest difference that would matter, in the column's unit")
    parser.add_argument("--baseline", metavar="ARM", help="the arm that the others are compared with; else the first")
    parser.add_argument("--until", choices=["answered"], help="looks after every pair, and says whether to go on")
    parser.add_argument(
        "--max-seeds", type=int, help=f"with --until: pairs at the most, {FIRST} to {MOST}; else {MANY}"
    )
    parser.add_argument("--out", type=Path, help="the folder of the report; else TABLE-report beside the table")
    asked = parser.parse_args()
    out = asked.out or asked.table.with_name(f"{asked.table.stem}-report")
    try:
        made = _report(asked, read_json(out / ABOUT))
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / ABOUT, json.dumps(made.about, indent=2) + "\n")
        text = write_page(out, made, Path(os.path.relpath(asked.table, out)).as_posix())
    except StudyError as error:
        sys.exit(_printable(f"error: {error}"))
    except OSError as error:
        sys.exit(f"error: {error.filename or out}: cannot be written: {error.strerror}")
    print(_printable(f"{text}\n\nreport {out / PAGE}"))


def _report(asked: argparse.Namespace, earlier: Mapping[str, Any]) -> StudyReport:
    rows = read_rows(asked.table)
    name = _column(asked.metric, list(rows[0]))
    metric = metric_of(name, asked.mode)
    check_margin(asked.margin, metric)
    about = {"metric": name, "mode": asked.mode, "margin": asked.margin, "baseline": asked.baseline}
    if asked.until:
        return _look(rows, metric, about, asked.max_seeds, earlier)
    if asked.max_seeds is not None:
        raise StudyError("--max-seeds: has no effect without --until answered")
    found, arms, looks = compare_rows(rows, metric, asked.margin, asked.baseline, earlier.get("seeds", ()))
    return StudyReport(found, arms, about | {"seeds": looks})


def _look(
    rows: Sequence[Mapping[str, str]],
    metric: Metric,
    about: dict[str, Any],
    most: int | None,
    earlier: Mapping[str, Any],
) -> StudyReport:
    """Returns the report on a table that grows until the question is answered. earlier: report.json of the last one."""
    if about["margin"] is None:
        raise StudyError("--margin: is needed with --until answered, the smallest difference that would matter")
    most = MANY if most is None else check_most("--max-seeds", most)
    arms = arms_of_rows(rows)
    seeds = list(dict.fromkeys(Result(row, number).seed for number, row in enumerate(rows)))
    failed = {run.seed for arm in arms for run in arm.unfinished if run.state == "failed"}
    until = {"arms": [arm.name for arm in arms], "max_seeds": most, "left_out": sorted(failed)}
    usable = [seed for seed in seeds if seed not in failed]
    found, ordered, looks = look_at_rows(rows, metric, about["margin"], until, about["baseline"], usable)
    names = [arm.name for arm in ordered]
    before = earlier.get("until", {"asked": [], "pairs": 0})
    question = metric.name, about["mode"], about["margin"], names
    until |= {
        "asked": with_question(before["asked"], *question, before["pairs"]),
        "pairs": max(before["pairs"], looks.pairs),
    }
    about |= {"seeds": earlier.get("seeds", []), "until": until, "notes": _waiting(ordered, looks, seeds, failed)}
    return StudyReport(found, ordered, about, looks)


def _waiting(arms: Sequence[Arm], looks: Looks, seeds: Sequence[int], failed: Collection[int]) -> list[str]:
    """Returns a warning on seeds that looks wait for although later ones are there: their runs may have failed."""
    running = [arm.runs.keys() for arm in arms if arm.name in (arms[0].name, *looks.running)]
    done = [seed for seed in seeds if seed in set.intersection(*map(set, running))]
    missing = [seed for seed in seeds if seed not in done and seed not in failed]
    late = [seed for seed in missing if done and seeds.index(seed) < seeds.index(done[-1])]
    if looks.ended or not late:
        return []
    return [f"{seeds_of(late)}: not there for every arm, and no look passes it. Give a run that failed state=failed"]


def _column(asked: str | None, columns: list[str]) -> str:
    known = [column for column in columns if column not in ("arm", "seed", "state")]
    if asked is None and len(known) == 1:
        return known[0]
    if asked not in known:
        raise StudyError(f"--metric {asked or 'is needed'}: must be one of the columns {', '.join(known)}")
    return asked


def _printable(text: str) -> str:
    """Returns the text with control characters escaped: names come from the table."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


if __name__ == "__main__":
    main()
