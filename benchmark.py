"""Measures this template against the usual way, on this machine: python benchmark.py [PART ...]"""

import argparse
import json
import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

PARTS = ("lrn", "step", "data", "train", "limits")  # and these, which are left out unless they are named:
NAMED = ("panels", "sweep", "gpu", "jobs", "many")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; or {', '.join(NAMED)}")
    parser.add_argument("--photos", type=Path, help="data: a folder of JPEG photographs; made-up images if left out")
    parser.add_argument("--size", type=int, default=256, help="data: the side of a stored image; 256")
    parser.add_argument("--crop", type=int, default=227, help="data: the side of a window of it; 227")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="step and lrn: cpu if left out")
    parser.add_argument("--batch", type=int, default=64, help="step and lrn: images at a time; 64")
    parser.add_argument("--json", type=Path, help="a file for the rows")
    parser.add_argument("--plot", type=Path, help="an image of the ratios, .png, .svg or .pdf")
    parser.add_argument(
        "--no-keep-freed-memory", action="store_true", help="freed memory goes back to the kernel, as glibc has it"
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - {*PARTS, *NAMED}:
        parser.error(f"{', '.join(sorted(unknown))}: must be among {', '.join((*PARTS, *NAMED))}")
    if not 1 <= options.crop <= options.size <= 1024:
        parser.error(f"--size {options.size} --crop {options.crop}: must be 1 <= crop <= size <= 1024")
    for name, file in (("--json", options.json), ("--plot", options.plot)):
        if file and not file.absolute().parent.is_dir():
            parser.error(f"{name} {file}: no such folder")
    if options.plot and options.plot.suffix not in (".png", ".svg", ".pdf"):
        parser.error(f"--plot {options.plot}: must end with .png, .svg or .pdf")
    if options.photos and not options.photos.is_dir():
        parser.error(f"--photos {options.photos}: no such folder")
    if options.photos and len([p for p in options.photos.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg")]) < 2:
        parser.error(f"--photos {options.photos}: holds fewer than two JPEGs")

    if options.batch < 1:
        parser.error(f"--batch {options.batch}: must be at least 1")

    import torch

    if ("gpu" in options.parts or options.device == "cuda") and not torch.cuda.is_available():
        parser.error("gpu, --device cuda: torch finds no CUDA device here")

    from alexnet.benchmarks.measure import HEAD, line
    from alexnet.malloc import keep_freed_memory

    kept = not options.no_keep_freed_memory and keep_freed_memory()
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"freed memory {'kept' if kept else 'given back'}"
    )
    rows: list[Any] = []
    for part in (*PARTS, *NAMED):
        if part in (options.parts or PARTS):
            for row in measure(part, options):
                if not rows:
                    print(HEAD)
                rows.append(row)
                print(line(row), flush=True)
    if "gpu" in options.parts:
        from alexnet.benchmarks.gpu import projection

        print("\n".join(projection(rows)))
    if options.plot and rows:
        from alexnet.benchmarks.plot import plot

        plot(rows, options.plot)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def measure(part: str, options: argparse.Namespace) -> Iterator[Any]:
    import torch

    device = torch.device(options.device)
    if part == "limits":
        from alexnet.benchmarks.limits import copy_rate, matmul_rate
        from alexnet.cores import has_bfloat16

        half = [torch.bfloat16] if has_bfloat16() else []  # else a product takes a minute
        for dtype in (torch.float32, *half):
            print(f"matmul {str(dtype)[6:]}: {matmul_rate(dtype) / 1e9:,.0f} GFLOP/s", flush=True)
        print(f"copy: {copy_rate() / 1e9:.1f} GB/s, read and written", flush=True)
    elif part == "lrn":
        from alexnet.benchmarks import lrn

        yield from lrn.measure(options.batch, device=device)
        if device.type == "cpu":
            yield from lrn.measure_map(options.batch)
            yield from lrn.measure_beside(options.batch)
    elif part == "step":
        from alexnet.benchmarks import step

        yield from step.measure(options.batch, device=device)
    elif part == "data":
        from alexnet.benchmarks import data

        yield from data.measure(options.photos, options.size, options.crop)
    elif part == "train":
        from alexnet.benchmarks import train

        yield from train.measure()
    elif part == "panels":
        from alexnet.benchmarks import panels

        print(panels.table(panels.run()), flush=True)
    elif part == "sweep":
        from alexnet.benchmarks import sweep

        print(sweep.measure(), flush=True)
    elif part == "jobs":
        from alexnet.benchmarks import jobs

        yield from jobs.measure()
    elif part == "many":
        from alexnet.benchmarks import many

        print(many.measure(), flush=True)
    else:
        from alexnet.benchmarks import gpu

        print(torch.cuda.get_device_name())
        yield from gpu.measure(torch.device("cuda"))


if __name__ == "__main__":
    main()
