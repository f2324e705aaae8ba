"""Tests a trained network.

python evaluate.py RUN [crops=10] [data=folder data.root=FOLDER]
"""

import argparse
from pathlib import Path

from alexnet.cli import handle_errors, keys_and_values, run_or_checkpoint
from alexnet.errors import escape_lines


def main() -> None:
    """Reads the command line, tests the network, and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=run_or_checkpoint, metavar="RUN", help="a run directory, or a checkpoint")
    parser.add_argument(
        "asked",
        nargs="*",
        metavar="KEY=VALUE",
        help="crops=1, 5 or 10; data=, data.root= and so on for other images; trusted=[PACKAGE]",
    )
    parser.add_argument("--out", type=Path, help="where the files are written; by default RUN/evaluation")
    parser.add_argument("--force", action="store_true", help="replace existing files")
    options = parser.parse_intermixed_args()
    from alexnet.inference.evaluate import evaluate  # torch takes a second

    out, text = evaluate(options.run, keys_and_values(options.asked), options.out, force=options.force)
    print(escape_lines(f"{text}\n\nwritten {out}"))


if __name__ == "__main__":
    with handle_errors():
        main()
