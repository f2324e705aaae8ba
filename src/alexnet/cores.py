"""What the processor offers: the number of cores that this process may use, and bfloat16."""

import os
from pathlib import Path


def available_cores() -> int:
    """Returns how many cores this process may use.

    They are those it is bound to, at most its container's quota (joblib finds out both) and its SLURM task's share.
    """
    from joblib import cpu_count  # takes a moment, and a mistyped key is answered at once

    share = _slurm_share()
    return cpu_count() if share is None else max(1, min(share, cpu_count()))


def limit_threads() -> None:
    """Limits torch to the cores that this process may use. In a container torch counts all of the machine."""
    import torch

    if torch.get_num_threads() > (cores := available_cores()):
        torch.set_num_threads(cores)


def has_bfloat16() -> bool:
    """Returns whether the processor multiplies in bfloat16 (AVX-512). Elsewhere bfloat16 is many times slower."""
    import torch

    if hasattr(torch.cpu, "get_capabilities"):  # from torch 2.12 on
        return bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "avx512_bf16" in cpuinfo.read_text()


def _slurm_share() -> int | None:
    """Returns the cores of this SLURM task, which hold whether or not SLURM binds the task to them."""
    try:
        if "SLURM_CPUS_PER_TASK" in os.environ:
            return int(os.environ["SLURM_CPUS_PER_TASK"])
        return int(os.environ["SLURM_CPUS_ON_NODE"]) // int(os.environ.get("SLURM_NTASKS_PER_NODE", 1))
    except (KeyError, ValueError):
        return None
