"""Compares runs: python report.py FOLDER...

FOLDER is a study, a sweep, or one of several run directories. Without any, the pages of docs/studies are written again
from the files beside them.
"""

import argparse
from pathlib import Path

from alexnet.cli import handle_errors
from alexnet.errors import escape_lines


def main() -> None:
    """Reads the command line, writes the report, and prints the answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="a study, a sweep, or run directories")
    parser.add_argument("--out", type=Path, help="where the report is written; by default the folder itself")
    parser.add_argument(
        "--metric", help="such as test/top1 or val/loss, or epochs: 'train/top1>=0.75'; by default the study's"
    )
    parser.add_argument("--mode", help="max or min: which is better; by default the study's, min for a loss")
    parser.add_argument("--margin", type=float, help="the smallest difference that matters; 0.01 is one point")
    parser.add_argument("--baseline", metavar="ARM", help="the baseline of all differences; by default the first arm")
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
