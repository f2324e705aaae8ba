"""Compiles lrn.c with the machine's own compiler when it is first used."""

import ctypes
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

log = logging.getLogger("alexnet")

SOURCE = Path(__file__).with_name("lrn.c")
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")
KINDS = {torch.float32: (), torch.bfloat16: ("-DBF16",)}
WIDEST = 4096  # lrn.c's own


class Constants(ctypes.Structure):
    """The constants of lrn.c."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("channels", "before", "size")),
        *((name, ctypes.c_float) for name in ("alpha", "beta", "k")),
    )


def is_supported(rows: Tensor, size: int) -> bool:
    """Returns whether the kernel can be used for these rows, on this machine."""
    if rows.device.type != "cpu" or rows.dtype not in KINDS:
        return False
    fits = rows.shape[1:].numel() < 2**31 if rows.ndim == 4 else rows.shape[1] + size <= WIDEST
    return fits and compiled(rows.dtype) is not None


def run(x: Tensor, grad: Tensor | None, size: int, alpha: float, beta: float, k: float) -> Tensor:
    """Returns y of x; with a gradient of y, the gradient of x.

    They are contiguous (positions, C), or for windows of a map (N, H, W, C).
    """
    kernel, out, threads = compiled(x.dtype), torch.empty_like(x), torch.get_num_threads()
    assert kernel is not None
    constants = Constants(x.shape[-1], size // 2, size, alpha, beta, k)
    pointers = (_pointer(x), _pointer(grad), _pointer(out))
    if x.ndim == 2:
        kernel.lrn(*pointers, ctypes.c_long(len(x)), constants, threads)
        return out
    height, width = x.shape[1:3]
    room = torch.empty(threads, 3, x.shape[1:].numel(), dtype=torch.float32)
    kernel.lrn_map(*pointers, ctypes.c_long(len(x)), height, width, constants, _pointer(room), threads)
    return out


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p() if tensor is None else ctypes.c_void_p(tensor.data_ptr())


@cache
def compiled(dtype: torch.dtype) -> ctypes.CDLL | None:
    """Returns the compiled kernel, from the cache if it was compiled before.

    Without a compiler a line says what that costs. Its threads are torch's: both find the same OpenMP.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or [name for name in ("cc", "gcc") if shutil.which(name)][:1]
    flags = (*FLAGS, *KINDS[dtype])
    name = hashlib.sha256(SOURCE.read_bytes() + repr((compiler, flags)).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("ALEXNET_CACHE", "~/.cache/alexnet")).expanduser()
    path = folder / f"lrn-{name}.so"
    try:
        with tempfile.TemporaryDirectory() as beside:
            if not _own(path):
                _compile(compiler, flags, built := Path(beside) / path.name)
                path = _stored(built, path)
            return ctypes.CDLL(str(path))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        why = " ".join(str(error).split())[:200]
        log.warning("LRN is not compiled (%s), and takes 7 to 10 times as long; CC=... names a C compiler", why)
        return None


def _own(path: Path) -> bool:
    """Returns whether a file exists and it and its folder belong to this user or to root: it is native code."""
    try:
        owners = {path.stat().st_uid, path.parent.stat().st_uid}
    except OSError:
        return False
    return owners <= {os.getuid(), 0}


def _stored(built: Path, path: Path) -> Path:
    """Returns the kernel's place in the cache, or the compiled file itself if nothing can be written there."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(built, part)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        return built
    return path if _own(path) else built


def _compile(compiler: list[str], flags: tuple[str, ...], to: Path) -> None:
    if not compiler:
        raise FileNotFoundError("cc is not there")
    for variant in ((), ("-DONE_MACHINE",)):  # an older compiler does not know the newest machines
        command = [*compiler, *flags, *variant, str(SOURCE), "-o", str(to), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if not done.returncode:
            return
    raise RuntimeError(done.stderr or f"{compiler[0]} ended with {done.returncode}")
