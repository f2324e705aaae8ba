"""Files that appear whole, and where errors came from."""

import threading
from pathlib import Path

import pytest

from alexnet.errors import describe_write_error, find_cause
from alexnet.io import atomic_write, temp_paths, write


def test_several_write_one_file(tmp_path: Path) -> None:
    """All succeed, one of them wins, and nothing is left beside it."""
    file, errors = tmp_path / "report.json", list[BaseException]()

    def writer(text: str) -> None:
        try:
            for _ in range(50):
                write(file, text * 10_000)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=writer, args=(text,)) for text in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(set(file.read_text())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_what_a_killed_writer_left_is_found(tmp_path: Path) -> None:
    file = tmp_path / "last[1].ckpt"
    with atomic_write(file) as beside:
        beside.touch()
        assert temp_paths(file) == [beside]
    assert temp_paths(file) == []


def test_an_error_is_followed_to_what_caused_it() -> None:
    full = OSError(28, "No space left on device", "x")
    with pytest.raises(RuntimeError) as raised:
        raise RuntimeError("cannot save") from full
    assert find_cause(raised.value, OSError) is full
    assert "x: cannot be written" in str(describe_write_error(raised.value))


def test_causes_that_form_a_ring() -> None:
    first, second, full = ValueError("first"), ValueError("second"), OSError(28, "No space left on device")
    first.__cause__, second.__context__ = second, first
    assert find_cause(first, OSError) is None
    first.__context__ = full
    assert find_cause(second, OSError) is full
