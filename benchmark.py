"""Measures this template against the usual way, on this machine: python benchmark.py data --photos FOLDER"""

import argparse
import json
import platform
from dataclasses import asdict
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="data", help="what to measure; everything if left out")
    parser.add_argument("--photos", type=Path, help="a folder of JPEG photographs; made-up pictures if left out")
    parser.add_argument("--json", type=Path, help="a file for the rows")
    options = parser.parse_args()
    if unknown := set(options.parts) - {"data"}:
        parser.error(f"{', '.join(unknown)}: there is only data to measure")
    if options.photos and not options.photos.is_dir():
        parser.error(f"--photos {options.photos}: no such folder")
    if options.photos and len([p for p in options.photos.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg")]) < 2:
        parser.error(f"--photos {options.photos}: holds fewer than two JPEGs")

    import torch

    from alexnet.bench.data import measure
    from alexnet.bench.measure import table

    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    rows = []
    for row in measure(options.photos):
        rows.append(row)
        print(f"{row.name}: {row.ratio:.2f} times", flush=True)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
