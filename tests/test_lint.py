"""The list in pyproject.toml of files that do not keep every rule yet only gets shorter."""

import sys
import tomllib

import pytest

from tests.conftest import ROOT, program

LISTED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["per-file-ignores"]
FILES = {file: rules for file, rules in LISTED.items() if file != "tests/*" and (ROOT / file).exists()}

pytest.importorskip("ruff")


def test_a_file_that_keeps_a_rule_has_left_the_list() -> None:
    for file, rules in FILES.items():
        for rule in rules:
            done = program(sys.executable, "-m", "ruff", "check", "--isolated", "--select", rule, file, code=None)
            assert done.returncode == 1, f"{file} keeps {rule}: take it off the list"
