"""How many processor cores this process may use."""

import os


def available_cores() -> int:
    """The cores that this process may use: those it is bound to, at most its container's quota (both are joblib's to
    find out) and its SLURM task's share.
    """
    from joblib import cpu_count  # takes a moment, and a mistyped key is answered at once

    share = _slurm_share()
    return cpu_count() if share is None else max(1, min(share, cpu_count()))


def limit_threads() -> None:
    """Torch computes with as many threads as the machine has cores, also in a container that may use two of them."""
    import torch

    if torch.get_num_threads() > (cores := available_cores()):
        torch.set_num_threads(cores)


def _slurm_share() -> int | None:
    """The cores of this SLURM task, which hold whether or not SLURM binds it to them."""
    try:
        if "SLURM_CPUS_PER_TASK" in os.environ:
            return int(os.environ["SLURM_CPUS_PER_TASK"])
        return int(os.environ["SLURM_CPUS_ON_NODE"]) // int(os.environ.get("SLURM_NTASKS_PER_NODE", 1))
    except (KeyError, ValueError):
        return None
