"""Measures this template against the usual way, on this machine.

python benchmark.py [PART ...]
"""

import argparse
import json
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

PARTS = ("lrn", "step", "data", "train", "limits")  # the others of MEASURE are left out unless they are named


def main() -> None:
    """Measures the parts that are named, and prints a row for each comparison as it is made."""
    parser = _parser()
    options = parser.parse_args()
    if problem := _problem(options):
        parser.error(problem)

    import torch

    if ("gpu" in options.parts or options.device == "cuda") and not torch.cuda.is_available():
        parser.error("gpu, --device cuda: torch finds no CUDA device here")

    from alexnet.malloc import keep_freed_memory

    kept = not options.no_keep_freed_memory and keep_freed_memory()
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"freed memory {'kept' if kept else 'given back'}"
    )
    rows = _measure_all(options)
    if "gpu" in options.parts:
        from alexnet.benchmarks.gpu import projection

        print("\n".join(projection(rows)))
    if options.plot and rows:
        from alexnet.benchmarks.plot import plot

        plot(rows, options.plot)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; or {', '.join(NAMED)}")
    parser.add_argument("--photos", type=Path, help="data, large: a folder of JPEGs; made-up images if left out")
    parser.add_argument("--size", type=int, default=256, help="data: the side of a stored image; 256")
    parser.add_argument("--crop", type=int, default=227, help="data: the side of a window of it; 227")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="step and lrn: cpu if left out")
    parser.add_argument("--batch", type=int, default=64, help="step and lrn: images at a time; 64")
    parser.add_argument("--json", type=Path, help="a file for the rows")
    parser.add_argument("--plot", type=Path, help="an image of the ratios, .png, .svg or .pdf")
    parser.add_argument(
        "--no-keep-freed-memory", action="store_true", help="freed memory goes back to the kernel, as glibc has it"
    )
    return parser


def _problem(options: argparse.Namespace) -> str | None:
    """Returns what is wrong with the command line, or None."""
    if unknown := set(options.parts) - MEASURE.keys():
        return f"{', '.join(sorted(unknown))}: must be among {', '.join(MEASURE)}"
    if not 1 <= options.crop <= options.size <= 1024:
        return f"--size {options.size} --crop {options.crop}: must be 1 <= crop <= size <= 1024"
    if options.batch < 1:
        return f"--batch {options.batch}: must be at least 1"
    for name, file in (("--json", options.json), ("--plot", options.plot)):
        if file and not file.absolute().parent.is_dir():
            return f"{name} {file}: no such folder"
    if options.plot and options.plot.suffix not in (".png", ".svg", ".pdf"):
        return f"--plot {options.plot}: must end with .png, .svg or .pdf"
    return _problem_of_photos(options.photos) if options.photos else None


def _problem_of_photos(folder: Path) -> str | None:
    if not folder.is_dir():
        return f"--photos {folder}: no such folder"
    jpegs = [path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")]
    return f"--photos {folder}: holds fewer than two JPEGs" if len(jpegs) < 2 else None


def _measure_all(options: argparse.Namespace) -> list[Any]:
    """Measures the parts that are named, and returns their rows, which are printed as they come."""
    from alexnet.benchmarks.measure import HEAD, line

    rows: list[Any] = []
    for part, measure in MEASURE.items():
        if part not in (options.parts or PARTS):
            continue
        for row in measure(options):
            if not rows:
                print(HEAD)
            rows.append(row)
            print(line(row), flush=True)
    return rows


# What measures a part: gives its rows, or prints a table of its own. Each imports what it alone needs.


def _limits(options: argparse.Namespace) -> Iterable[Any]:
    import torch

    from alexnet.benchmarks.limits import copy_rate, matmul_rate
    from alexnet.cores import has_bfloat16

    half = [torch.bfloat16] if has_bfloat16() else []  # else a product takes a minute
    for dtype in (torch.float32, *half):
        print(f"matmul {str(dtype)[6:]}: {matmul_rate(dtype) / 1e9:,.0f} GFLOP/s", flush=True)
    print(f"copy: {copy_rate() / 1e9:.1f} GB/s, read and written", flush=True)
    return ()


def _lrn(options: argparse.Namespace) -> Iterator[Any]:
    import torch

    from alexnet.benchmarks import lrn

    yield from lrn.measure(options.batch, device=torch.device(options.device))
    if options.device == "cpu":
        yield from lrn.measure_map(options.batch)
        yield from lrn.measure_beside(options.batch)


def _step(options: argparse.Namespace) -> Iterable[Any]:
    import torch

    from alexnet.benchmarks import step

    return step.measure(options.batch, device=torch.device(options.device))


def _data(options: argparse.Namespace) -> Iterable[Any]:
    from alexnet.benchmarks import data

    return data.measure(options.photos, options.size, options.crop)


def _large(options: argparse.Namespace) -> Iterable[Any]:
    from alexnet.benchmarks import data

    return data.measure_large(options.photos)


def _train(options: argparse.Namespace) -> Iterable[Any]:
    from alexnet.benchmarks import train

    return train.measure()


def _panels(options: argparse.Namespace) -> Iterable[Any]:
    from alexnet.benchmarks import panels

    print(panels.table(panels.run()), flush=True)
    return ()


def _sweep(options: argparse.Namespace) -> Iterable[Any]:
    from alexnet.benchmarks import sweep

    print(sweep.measure(), flush=True)
    return ()


def _gpu(options: argparse.Namespace) -> Iterator[Any]:
    import torch

    from alexnet.benchmarks import gpu

    print(torch.cuda.get_device_name())
    yield from gpu.measure(torch.device("cuda"))


def _jobs(options: argparse.Namespace) -> Iterable[Any]:
    from alexnet.benchmarks import jobs

    return jobs.measure()


def _many(options: argparse.Namespace) -> Iterable[Any]:
    from alexnet.benchmarks import many

    print(many.measure(), flush=True)
    return ()


MEASURE: dict[str, Callable[[argparse.Namespace], Iterable[Any]]] = {
    "lrn": _lrn,
    "step": _step,
    "data": _data,
    "train": _train,
    "limits": _limits,
    "panels": _panels,
    "sweep": _sweep,
    "gpu": _gpu,
    "jobs": _jobs,
    "many": _many,
    "large": _large,
}
NAMED = tuple(part for part in MEASURE if part not in PARTS)

if __name__ == "__main__":
    main()
