"""Writes a trained network for other programs.

python export.py RUN --format safetensors|onnx|torch_export
"""

import argparse
from pathlib import Path

from alexnet.cli import handle_errors, keys_and_values, run_or_checkpoint
from alexnet.errors import UserError, escape_lines


def main() -> None:
    """Reads the command line, writes the network, and prints the files' names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=run_or_checkpoint, metavar="RUN", help="a run directory, or a checkpoint")
    parser.add_argument("asked", nargs="*", metavar="KEY=VALUE", help="trusted=[PACKAGE], whose code the network needs")
    parser.add_argument("--format", required=True, help="safetensors, onnx or torch_export")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the files are written; by default RUN/export")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    options = parser.parse_intermixed_args()
    from alexnet.inference.export import export  # torch takes a second

    asked = keys_and_values(options.asked)
    if unknown := asked.keys() - {"trusted"}:
        raise UserError(f"{unknown.pop()}: no such key. Did you mean trusted?")
    trusted = asked.get("trusted", ())
    files, tried = export(options.run, options.format, options.out, force=options.force, trusted=trusted)
    print(escape_lines("\n".join([tried, *(f"written {file}" for file in files)])))


if __name__ == "__main__":
    with handle_errors():
        main()
