"""Lets a program go on when its standard output is closed: a closed terminal, or a pipe into head."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

GONE = (errno.EPIPE, errno.EIO, errno.EBADF)  # a pipe without a reader, a closed terminal, a closed file


class TolerantStream:
    """A text stream that discards what is written when nobody can read it any more.

    Other errors, such as of a full disk, are raised.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._discard(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._discard(error)

    def _discard(self, error: OSError) -> None:
        if error.errno not in GONE:
            raise error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())  # where what is still buffered goes, too
        os.close(null)


@contextmanager
def tolerant_output() -> Iterator[None]:
    """Context manager in which standard output and standard error may be closed at any time."""
    before = sys.stdout, sys.stderr
    if "JPY_PARENT_PID" in os.environ:  # Jupyter and Colab, whose !python is a terminal that cannot move its cursor
        os.environ["TERM"] = "dumb"
    _fill_closed_descriptors()
    sys.stdout, sys.stderr = (_tolerant(stream, fd) for fd, stream in enumerate(before, 1))
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _tolerant(stream: TextIO | None, fd: int) -> Any:
    if isinstance(stream, TolerantStream):
        return stream
    return TolerantStream(stream or open(fd, "w", encoding="utf-8", closefd=False))  # for as long as it is used


def _fill_closed_descriptors() -> None:
    """Opens /dev/null for standard streams that are closed, whose numbers the next opened files would get."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is fd
