"""The list in pyproject.toml of files that do not keep every rule yet only gets shorter."""

import re
import sys
import tomllib

import pytest

from tests.conftest import ROOT, program

LISTED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["per-file-ignores"]
FILES = {file: rules for file, rules in LISTED.items() if "*" not in file and (ROOT / file).exists()}
# What pyproject.toml says, but the list.
LIKE_HERE = ("--isolated", "--ignore", "D102,D105,D107,SIM108", "--config", 'lint.pydocstyle.convention="google"')

pytest.importorskip("ruff")


def test_a_file_that_keeps_a_rule_has_left_the_list() -> None:
    rules = sorted({rule for listed in FILES.values() for rule in listed})
    command = ["check", *LIKE_HERE, "--select", ",".join(rules), "--output-format", "concise", *FILES]
    done = program(sys.executable, "-m", "ruff", *command, code=None)
    found = set(re.findall(r"^(\S+?):\d+:\d+: ([A-Z]+\d+) ", done.stdout, re.M))
    for file, listed in FILES.items():
        for rule in listed:
            broken = any(path == file and code.startswith(rule) for path, code in found)
            assert broken, f"{file} keeps {rule}: take it off the list"
