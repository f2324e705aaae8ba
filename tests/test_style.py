"""A line makes one decision: what no linter says of it."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def holds(node: ast.AST, *kinds: type[ast.AST]) -> bool:
    """Whether there is such a node below this one."""
    return any(isinstance(other, kinds) and other is not node for other in ast.walk(node))


def faults(node: ast.AST) -> Iterator[str]:
    if isinstance(node, COMPREHENSIONS) and holds(node, *COMPREHENSIONS):
        yield "a comprehension within another"
    if isinstance(node, ast.BoolOp) and holds(node, ast.NamedExpr):
        yield ":= beside another test"
    if isinstance(node, ast.Call):
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            value = argument.value if isinstance(argument, ast.Starred) else argument
            if isinstance(value, ast.IfExp) or (isinstance(value, ast.JoinedStr) and holds(value, ast.IfExp)):
                yield "a conditional expression in an argument"


def places(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for fault in faults(node):
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {fault}"


def test_a_line_makes_one_decision() -> None:
    found = [place for path in (ROOT / "src").rglob("*.py") for place in places(path)]
    assert found == []
