"""What docs/ says of the code is so."""

import ast
import re
import shlex
from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig

from alexnet.config import build
from alexnet.models.summary import summarize
from tests.conftest import ROOT, has, slow

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
    for file, name in re.findall(r"`((?:\w+/)*\w+\.py)?::([\w.]+)`", text):
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
            if re.match(r"[a-z]+:", link) or ("studies" in link and not has("study")):
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


@slow
def test_each_command_of_docs_is_one(config: Callable[..., DictConfig]) -> None:
    """train.py's is composed, with the first of the values that a sweep has; of pytest's there are such tests; of
    benchmark.py such parts. Those of make-it-yours.md are run.
    """
    seen = {"train.py": 0, "pytest": 0, "benchmark.py": 0}
    for page in sorted({*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"} - {ROOT / "docs" / "make-it-yours.md"}):
        text = page.read_text().replace("\\\n", " ")
        text = re.sub(
            r"```\w*\n(.*?)```",
            lambda block: re.sub(r"^ *(.+?)(?: +#.*)?$", r"`\1`\n", block[1], flags=re.M),
            text,
            flags=re.S,
        )
        text = re.sub(r"\n(?! *[|`\n])", " ", text)
        before: list[str] = []
        for command in re.findall(r"`((?:\w+=\S+ )?(?:python|\.\.\.) [^`]+)`", text):
            said = f"{page.relative_to(ROOT)}: {command}"
            words = shlex.split(re.sub(r"^\w+=\S+ ", "", command))
            if words[0] == "...":
                words = [*before[: 3 if words[1].endswith(".py") else 4], *words[1:]]
            before, entry_point = words, words[2] if words[1] == "-m" else words[1]
            seen[entry_point] = seen.get(entry_point, 0) + 1
            if entry_point == "pytest" and words[3] == "-m":
                assert f"\n    {words[4]}:" in (ROOT / "setup.cfg").read_text(), said
            elif entry_point == "pytest":
                tests = (ROOT / words[3]).read_text()
                assert len(words) == 4 or re.search(rf'def test_\w*{words[5]}|"[\w ]*{words[5]}', tests), said
            elif entry_point == "benchmark.py" and has("benchmarks"):
                from benchmark import NAMED, PARTS

                assert {word for word in words[2:] if word.isalpha() and word.islower()} <= {*PARTS, *NAMED}, said
            elif entry_point == "train.py" and (has("study") or "study=" not in command):
                if {"--help", "--cfg"} & set(words):
                    continue
                typed = [word for word in words[2:] if not re.search(r"^-m$|RUN|\$|^hydra[/.]|tag\(|=yours$", word)]
                config(*(re.sub(r"^([\w.]+=[^\[,]+),.*", r"\1", word) for word in typed))
    assert all(seen.values()), seen


def test_a_run_is_followed_in_as_few_lines_as_the_readme_says() -> None:
    said, lines = re.search(
        r"A run can be followed in five files, (\d+) lines: (.*?)\.\s\[", (ROOT / "README.md").read_text(), re.S
    ).groups()
    names = re.findall("`(.+?)`", lines)
    assert len(names) == 5
    paths = [ROOT / "train.py", *(ROOT / "src" / "alexnet" / name for name in names[1:])]
    assert sum(len(path.read_text().splitlines()) for path in paths) <= int(said)


def test_the_translation_has_all_that_the_readme_has() -> None:
    """The same headings, commands, links, images and tables."""

    def parts(name: str) -> list[list[str]]:
        text = (ROOT / name).read_text()
        blocks = re.findall(r"```(?:bash|yaml|python)?\n(.*?)```", text, re.S)
        commands = [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]
        return [
            re.findall(r"^#+(?= )", text, re.M),
            commands,
            sorted(re.findall(r"\]\(([^)]+)\)", text.replace(".zh-TW.", "."))),
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
    assert len(SIZES) == 9
