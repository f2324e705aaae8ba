"""Keeps freed memory in the process, by a setting of glibc."""

import ctypes
import platform

# malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Makes glibc keep freed memory for the process.

    By itself it gives every large tensor back to the kernel, which then has to clear each page of the next one again.
    For programs, not for libraries: it holds for the whole process.

    Returns:
        Whether it is so: on Linux with glibc alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, MOST), mallopt(M_MMAP_THRESHOLD, MOST)])
