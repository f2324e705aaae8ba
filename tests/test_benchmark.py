"""benchmark.py as a user types it; what it measures is tested in tests/bench."""

import sys

from tests.conftest import program


def test_mistakes() -> None:
    for arguments, message in ((("speed",), "speed: there is only data"), (("--photos", "/none"), "no such folder")):
        assert message in program(sys.executable, "benchmark.py", *arguments, code=2).stderr
