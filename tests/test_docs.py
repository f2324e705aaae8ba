"""What docs/ says of the code is so."""

import ast
import re
from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig

from alexnet.config import build
from alexnet.models.summary import summarize
from tests.conftest import ROOT, has

FIDELITY = (ROOT / "docs" / "fidelity.md").read_text()
SIZES = re.findall(r"\| `(.+)` \| (\d) x (\d+) x \d+ \| ([\d,]+) \| ([\d,]+) \|", FIDELITY)


def test_the_tests_that_fidelity_names_are_there() -> None:
    named, path = 0, ""
    for file, name in re.findall(r"((?:\w+/)?test_\w+\.py)?::(test_\w+)", FIDELITY):
        path = file or path
        assert f"def {name}(" in (ROOT / "tests" / path).read_text(), f"{path}::{name}"
        named += 1
    assert named > 25


def test_the_code_that_architecture_names_is_there() -> None:
    text, path, named = (ROOT / "docs" / "architecture.md").read_text(), "", 0
    for file, name in re.findall(r"`((?:\w+/)?\w+\.py)?::([\w.]+)`", text):
        path = file or path
        if "/" in path and not has(path.split("/")[0]):
            continue
        code = ast.parse((ROOT / "src" / "alexnet" / path).read_text())
        for part in name.split("."):
            found = [node for node in code.body if getattr(node, "name", "") == part]
            assert found, f"{path}::{name}"
            code = found[0]
        named += 1
    assert named > 25


def test_links_lead_somewhere() -> None:
    """To files, and to headings of them as a page's address has them."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    seen = 0
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if re.match(r"[a-z]+:", link) or ("studies" in link and not has("studies")):
                continue
            path, _, heading = link.partition("#")
            target = (page.parent / path) if path else page
            assert target.exists(), f"{page.name}: {link}"
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.M) if heading else []
            slugs = [re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings]
            assert not heading or heading in slugs, f"{page.name}: {link}"
            seen += 1
    assert seen > 20
    assert all((ROOT / name).exists() for name in ("CONTRIBUTING.md", "LICENSE"))


def test_the_translation_has_all_that_the_readme_has() -> None:
    """The same headings, commands, links, pictures and tables."""

    def parts(name: str) -> list[list[str]]:
        text = (ROOT / name).read_text()
        blocks = re.findall(r"```(?:bash|yaml|python)?\n(.*?)```", text, re.S)
        commands = [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]
        return [
            re.findall(r"^#+(?= )", text, re.M),
            commands,
            sorted(re.findall(r"\]\(([^)]+)\)", text.replace("README.zh-TW.md", "README.md"))),
            re.findall(r"^\| (`.+?`)", text, re.M),
        ]

    for ours, theirs in zip(parts("README.md"), parts("README.zh-TW.md"), strict=True):
        assert ours == theirs


@pytest.mark.parametrize(("model", "channels", "side", "parameters", "flops"), SIZES, ids=[row[0] for row in SIZES])
def test_sizes(
    model: str, channels: str, side: str, parameters: str, flops: str, config: Callable[..., DictConfig]
) -> None:
    thousand = ["data=imagenet"] if model.startswith("alexnet") else []
    cfg = config(*f"model={model}".split(), *thousand, f"data.channels={channels}", f"data.crop={side}")
    found = summarize(build(cfg, "model"), torch.zeros(1, int(channels), int(side), int(side)))
    assert [f"{found.parameters:,}", f"{found.flops:,}"] == [parameters, flops]


def test_all_sizes_were_read() -> None:
    assert len(SIZES) == 8
