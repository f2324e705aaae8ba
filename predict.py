"""Predicts the classes of images.

python predict.py RUN IMAGES... [--neighbours] [--out FILE.png]
"""

import argparse
import re
import sys
from pathlib import Path

from alexnet.cli import handle_errors, keys_and_values, run_or_checkpoint
from alexnet.errors import escape_lines


def main() -> None:
    """Reads the command line, and prints the predictions. Exits with 1 where an image cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=run_or_checkpoint, metavar="RUN", help="a run directory, or a checkpoint")
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="files, folders, or - for a list on standard input")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="classes of each image; 5 by default")
    alike = "also the six most similar training images; data.root=FOLDER says where they are now"
    parser.add_argument("--neighbours", action="store_true", help=alike)
    parser.add_argument("--json", action="store_true", help="JSON in place of the table")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a figure of it: .png, .svg or .pdf")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    options = parser.parse_intermixed_args()
    keys = [text for text in options.images if re.match(r"(data(\.\w+)?|trusted)=", text)]
    images = [text for text in options.images if text not in keys]
    from alexnet.inference.predict import predict  # torch takes a second

    text, problems = predict(
        options.run,
        images,
        options.top,
        keys_and_values(keys),
        options.out,
        neighbours=options.neighbours,
        as_json=options.json,
        force=options.force,
    )
    print(escape_lines(text))
    for problem in problems:
        print(escape_lines(f"error: {problem}"), file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    with handle_errors():
        main()
