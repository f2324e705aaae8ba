"""Reports on a table of runs: python -m alexnet.study results.csv --metric f1.

The table has a row for every run, and the columns arm, seed and any metrics, whatever trained the models. See
docs/compare-any-runs.md.
"""

import argparse
import json
import os
import sys
from collections.abc import Collection
from pathlib import Path

from alexnet.study.errors import StudyError
from alexnet.study.files import read_json, write_text
from alexnet.study.metrics import metric_of
from alexnet.study.report import ABOUT, PAGE, StudyReport, check_margin, compare_rows, write_page
from alexnet.study.table import read_rows


def main() -> None:
    """Writes the report and prints its tables. Exits with 1 after a line on what is wrong with the table."""
    parser = argparse.ArgumentParser(prog="python -m alexnet.study", description=__doc__)
    parser.add_argument("table", type=Path, metavar="TABLE.csv", help="a row for every run; columns arm, seed, metrics")
    parser.add_argument("--metric", help="the column that is compared; else the only one there is")
    parser.add_argument("--mode", help="max or min: which way it is better; else max, and min for a loss")
    parser.add_argument("--margin", type=float, help="the smallest difference that would matter, in the column's unit")
    parser.add_argument("--baseline", metavar="ARM", help="the arm that the others are compared with; else the first")
    parser.add_argument("--out", type=Path, help="the folder of the report; else TABLE-report beside the table")
    asked = parser.parse_args()
    out = asked.out or asked.table.with_name(f"{asked.table.stem}-report")
    try:
        made = _report(asked, read_json(out / ABOUT).get("seeds", ()))
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / ABOUT, json.dumps(made.about, indent=2) + "\n")
        text = write_page(out, made, Path(os.path.relpath(asked.table, out)).as_posix())
    except StudyError as error:
        sys.exit(_printable(f"error: {error}"))
    except OSError as error:
        sys.exit(f"error: {error.filename or out}: cannot be written: {error.strerror}")
    print(_printable(f"{text}\n\nreport {out / PAGE}"))


def _report(asked: argparse.Namespace, earlier: Collection[int]) -> StudyReport:
    rows = read_rows(asked.table)
    name = _column(asked.metric, list(rows[0]))
    metric = metric_of(name, asked.mode)
    check_margin(asked.margin, metric)
    found, arms, looks = compare_rows(rows, metric, asked.margin, asked.baseline, earlier)
    about = {"metric": name, "mode": asked.mode, "margin": asked.margin, "baseline": asked.baseline, "seeds": looks}
    return StudyReport(found, arms, about)


def _column(asked: str | None, columns: list[str]) -> str:
    known = [column for column in columns if column not in ("arm", "seed", "state")]
    if asked is None and len(known) == 1:
        return known[0]
    if asked not in known:
        raise StudyError(f"--metric {asked or 'is needed'}: must be one of the columns {', '.join(known)}")
    return asked


def _printable(text: str) -> str:
    """With what a terminal would obey written out: names come from the table."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


if __name__ == "__main__":
    main()
