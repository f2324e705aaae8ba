"""Compares runs: python report.py FOLDER...

A folder is that of a study or sweep, or there are those of several runs. Without any, it writes the pages of
docs/studies from the files beside them.
"""

import argparse
from pathlib import Path

from alexnet.cli import handle_errors
from alexnet.errors import escape_lines


def main() -> None:
    """Reads the command line, writes the report, and prints the answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="of a study or sweep, or of runs")
    parser.add_argument("--out", type=Path, help="where the report is written; else the folder itself")
    parser.add_argument(
        "--metric", help="such as test/top1 or val/loss, or epochs: 'train/top1>=0.75'; else the study's"
    )
    parser.add_argument("--mode", help="max or min: which way it is better; else the study's, min for a loss")
    parser.add_argument("--margin", type=float, help="the smallest difference that would matter, 0.01 being a point")
    parser.add_argument("--baseline", metavar="ARM", help="the arm that the others are compared with; else the first")
    asked = parser.parse_args()
    if not asked.folders:
        if any(value is not None for key, value in vars(asked).items() if key != "folders"):
            parser.error("which runs? Options are for the report of a FOLDER")
        from alexnet.study_adapter.index import write_pages  # matplotlib takes a second

        print("\n".join(map(str, write_pages())))
        return
    from alexnet.study_adapter.report import report

    out, text = report(asked.folders, asked.out, asked.metric, asked.margin, asked.baseline, asked.mode)
    print(escape_lines(f"{text}\n\nreport {out / 'report.md'}"))


if __name__ == "__main__":
    with handle_errors():
        main()
