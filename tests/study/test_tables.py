"""`python -m alexnet.study`: a report on anybody's table."""

import csv
import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from alexnet.study.__main__ import main
from alexnet.study.compare import compare
from alexnet.study.metrics import metric_of
from alexnet.study.table import arms_of_rows
from tests.conftest import ROOT, program

DRAW = np.random.default_rng(3)
VALUES = {arm: DRAW.normal(level, 0.01, 6) for arm, level in (("plain", 0.7), ("with lrn", 0.75))}

BLOCKED = """
class Blocked:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in REFUSED:
            raise ImportError(name)

REFUSED = {"torch", "torchvision", "pytorch_lightning", "torchmetrics", "hydra", "omegaconf", "yaml", "filelock"}
sys.meta_path.insert(0, Blocked())
"""


def write_table(path: Path, rows: list[list[object]], header: str = "arm,seed,f1", encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file)
        writer.writerows([header.split(","), *rows])
    return path


def two_arms() -> list[list[object]]:
    return [[arm, seed, value] for arm, values in VALUES.items() for seed, value in enumerate(values, 1)]


def study(*arguments: str | Path, code: int = 0, before: str = "pass") -> subprocess.CompletedProcess[str]:
    """The program in an interpreter of its own, after the statements `before`."""
    start = "sys.argv[0] = 'study'\nrunpy.run_module('alexnet.study', run_name='__main__')"
    script = f"import runpy, sys\n{before}\n{start}"
    return program(sys.executable, "-c", script, *map(str, arguments), code=code)


def test_the_interval_is_that_of_the_paired_t(tmp_path: Path) -> None:
    table = write_table(tmp_path / "results.csv", two_arms())
    said = study(table).stdout
    answer = re.match(r"with lrn is better than plain, by (\S+) of f1 \((\S+) to (\S+)\)\.\n", said)
    assert answer, said
    interval = stats.ttest_rel(VALUES["with lrn"], VALUES["plain"]).confidence_interval()
    mean = float((VALUES["with lrn"] - VALUES["plain"]).mean())
    np.testing.assert_allclose([float(x) for x in answer.groups()], [mean, interval.low, interval.high], rtol=5e-3)
    out = tmp_path / "results-report"
    assert said.splitlines()[-1] == f"report {out / 'report.md'}"
    page = (out / "report.md").read_text()
    assert "[../results.csv](../results.csv)" in page
    shown = re.findall(r"!\[.*\]\((\w+\.png)\)", page)
    assert shown == ["differences.png", "pairs.png"]
    for name in shown:
        with Image.open(out / name) as image:
            assert min(image.size) > 200


def growing(pairs: int) -> list[list[object]]:
    """A table as a script leaves it that trains both arms with one seed after another; seeds as people name them."""
    draw = np.random.default_rng(4)
    rows: list[list[object]] = []
    for number in range(pairs):
        seed = draw.normal(0, 0.01)
        rows += [
            ["plain", 100 - number, 0.7 + seed, "done"],
            ["wide", 100 - number, 0.7 + seed + draw.normal(0, 0.005), "done"],
        ]
    return rows


def here(*arguments: str | Path) -> str:
    """What the program says, in this process: quicker. Raises SystemExit as it does."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setattr(sys, "argv", ["study", *map(str, arguments)])
        main()
    return said.getvalue()


def until_answered(path: Path, rows: list[list[object]], *more: str) -> str:
    table = write_table(path, rows, "arm,seed,f1,state")
    return here(table, "--metric", "f1", "--margin", "0.005", "--until", "answered", *more)


def test_a_growing_table_says_whether_to_go_on(tmp_path: Path) -> None:
    """As sequential looks at paired t intervals of 99.5% by hand do."""
    assert "no look yet; the first is after 3 pairs" in until_answered(tmp_path / "a.csv", growing(2))
    rows = growing(20)
    change = np.array([float(str(b[2])) - float(str(a[2])) for a, b in zip(rows[::2], rows[1::2], strict=True)])
    ends = []
    for pairs in range(3, 21):
        low, high = stats.ttest_rel(change[:pairs], np.zeros(pairs)).confidence_interval(0.995)
        if low > 0 or high < 0 or (low > -0.005 and high < 0.005):
            ends.append(pairs)
    assert 4 < ends[0] < 20
    said = until_answered(tmp_path / "a.csv", growing(ends[0] - 1))
    assert f"wide: no answer after {ends[0] - 1} pairs. If there is no difference, about " in said
    said = until_answered(tmp_path / "a.csv", rows)
    assert f"wide: answered after {ends[0]} pairs." in said
    assert said.startswith("wide against plain: equivalent within 0.005")
    record = json.loads((tmp_path / "a-report" / "report.json").read_text())
    assert record["until"]["pairs"] == ends[0]
    assert len(record["until"]["asked"]) == 1


def test_a_missing_run_is_waited_for_and_a_failed_one_is_not(tmp_path: Path) -> None:
    rows = growing(6)
    said = until_answered(tmp_path / "a.csv", [row for row in rows if row[:2] != ["wide", 99]])
    assert "no look yet" in said
    assert "seed 99: not there for every arm" in said
    for row in rows:
        if row[:2] == ["wide", 99]:
            row[2:] = ["", "failed"]
    said = until_answered(tmp_path / "a.csv", rows)
    assert "no look yet" not in said
    assert "seed 99 left out, since a run failed" in said


def test_another_margin_after_a_look_is_said(tmp_path: Path) -> None:
    until_answered(tmp_path / "a.csv", growing(4))
    assert "Asked otherwise (margin 0.005) for the first 4 pairs" in until_answered(
        tmp_path / "a.csv", growing(4), "--margin", "0.006"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--until", "answered"], "--margin: is needed with --until answered"),
        (["--until", "answered", "--margin", "1", "--max-seeds", "2"], "--max-seeds=2: must be a whole number"),
        (["--max-seeds", "9"], "--max-seeds: has no effect without --until answered"),
        (["--until", "answered", "--margin", "1", "--baseline", "x"], "baseline=x: must be one of plain; with lrn"),
    ],
)
def test_what_no_look_can_answer(options: list[str], message: str, tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.csv", two_arms())
    with pytest.raises(SystemExit, match=message):
        here(table, *options)
    assert not (tmp_path / "a-report").exists()


def test_one_arm_cannot_be_answered(tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.csv", two_arms()[:6])
    with pytest.raises(SystemExit, match="needs an arm beside the baseline"):
        here(table, "--until", "answered", "--margin", "1")


def test_it_needs_no_torch_and_no_hydra(tmp_path: Path) -> None:
    assert "better" in study(write_table(tmp_path / "a.csv", two_arms()), before=BLOCKED).stdout


def test_options(tmp_path: Path) -> None:
    rows = [[*row, 1 - float(str(row[2]))] for row in two_arms()]
    table = write_table(tmp_path / "a.csv", rows, "arm,seed,f1,mean error", encoding="utf-8-sig")
    out = tmp_path / "deep" / "out"
    more = ("--mode", "min", "--margin", "0.001", "--baseline", "with lrn", "--out", out)
    said = here(table, "--metric", "mean error", *more)
    assert said.startswith("plain is worse than with lrn, by ")
    assert "The margin of 0.001 takes" in said
    about = json.loads((out / "report.json").read_text())
    assert (about["metric"], about["mode"], about["margin"], about["baseline"]) == (
        "mean error", "min", 0.001, "with lrn",
    )  # fmt: skip
    assert about["seeds"] == [6]


def test_rows_that_do_not_count_are_named(tmp_path: Path) -> None:
    rows = [[*row, ""] for row in two_arms()]
    rows[1][2], rows[2][3], rows[3][2] = "", "failed", "inf"
    said = here(write_table(tmp_path / "a.csv", rows, "arm,seed,f1,state"))
    assert "plain, seeds 2, 4: f1 is no number; left out" in said
    assert "plain, seed 3: failed" in said
    kept = [0, 4, 5]
    interval = stats.ttest_rel(VALUES["with lrn"][kept], VALUES["plain"][kept]).confidence_interval()
    ends = re.search(r"([+-]\S+) to ([+-]\S+)", said)
    assert ends
    np.testing.assert_allclose([float(x) for x in ends.groups()], [interval.low, interval.high], rtol=5e-3)


@pytest.mark.parametrize(
    ("header", "rows", "arguments", "message"),
    [
        ("arm,f1", [["a", 1]], [], "no column seed; it has arm, f1"),
        ("arm,seed,f1", [], [], "has no rows"),
        ("arm,seed,f1", [["a", 1]], [], "row 1 has 2 cells, and the header 3"),
        ("arm,seed,f1,f1", [["a", 1, 1, 1]], [], "more than one column f1"),
        ("arm,seed,f1", [["a", 1, 0.5], ["a", 1, 0.6]], [], "rows 1 and 2 are both of arm 'a' and seed 1"),
        ("arm,seed,f1", [["a", 1.5, 0.5]], [], "seed '1.5', in row 1: not a whole number"),
        ("arm,seed,f1", [["a", 1, "0,5"]], [], "f1 '0,5', in row 1: not a number"),
        ("arm,seed,f1", [["a", 1, ""]], [], "f1: none of the 1 finished runs"),
        ("arm,seed,f1", [["a", 1, 1]], ["--metric", "f2"], "--metric f2: must be one of the columns f1"),
        ("arm,seed,f1,loss", [["a", 1, 1, 1]], [], "--metric is needed: must be one of the columns f1, loss"),
        ("arm,seed,f1", [["a", 1, 1]], ["--mode", "less"], "mode=less: must be one of max, min"),
        ("arm,seed,loss", [["a", 1, 1]], ["--mode", "max"], "mode=max: the best loss is the minimum"),
        ("arm,seed,f1", [["a", 1, 1]], ["--margin", "0"], "margin=0.0: must be a number above 0"),
        ("arm,seed,f1", [["a", 1, 1]], ["--margin", "nan"], "margin=nan: must be a number above 0"),
        ("arm,seed,f1", [["a", 1, 1]], ["--baseline", "b"], "baseline=b: must be one of a"),
        ("arm,seed,top1", [["a", 1, 75]], [], "top1: 75 is above 1"),
    ],
)
def test_mistakes(
    header: str, rows: list[list[object]], arguments: list[str], message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In a line, with exit code 1, before anything is written."""
    table = write_table(tmp_path / "a.csv", rows, header)
    monkeypatch.setattr(sys, "argv", ["study", str(table), *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert message in str(ended.value.code)
    assert str(ended.value.code).startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_missing_table_ends_with_exit_code_1(tmp_path: Path) -> None:
    done = study(tmp_path / "none.csv", code=1)
    assert done.stderr == f"error: {tmp_path / 'none.csv'}: cannot be read: No such file or directory\n"


def test_names_of_arms_that_mean_something_elsewhere(tmp_path: Path) -> None:
    """To Markdown, to matplotlib, and to a terminal."""
    rows = [[f"{arm}|x $\\frac{{$ \x1b[31m", seed, value] for arm, seed, value in two_arms()]
    said = here(write_table(tmp_path / "a.csv", rows))
    assert "\x1b" not in said
    lines = [line for line in (tmp_path / "a-report" / "report.md").read_text().splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_the_report_of_a_study_is_such_a_table(tmp_path: Path) -> None:
    """With the same intervals, for new images too."""
    tables = sorted((ROOT / "docs" / "studies").glob("*/report.csv"))
    if not tables:
        pytest.skip("no study in docs/")
    folder = tables[0].parent
    about = json.loads((folder / "report.json").read_text())
    more = ("--metric", about["metric"], "--margin", str(about["margin"]), "--out", tmp_path / "out")
    said = here(tables[0], *more)
    assert said.splitlines()[0] in (folder / "report.md").read_text()


def test_the_example_of_the_docs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "compare-any-runs.md").read_text()
    commands = re.findall(r"^python -m alexnet.study (.*) --out .*$", page, re.M)
    shown = re.findall(r"^```text\n(.*?)\n```", page, re.M | re.S)
    once, until = (here(*line.split(), "--out", tmp_path / str(i)) for i, line in enumerate(commands))
    assert once.rpartition("\n\nreport ")[0] == shown[0]
    assert f"\n{shown[1]}\n" in until


def test_values_of_images_have_the_intervals_of_bits() -> None:
    """Products of any values are as good as counts of what two runs both had right, which are products of bits."""
    draw = np.random.default_rng(3)
    of_arms = draw.normal(0, 1, (2, 200)).repeat(3, axis=0)
    right = (of_arms + draw.normal(0.8, 0.5, (6, 200)) > 0).astype(float)
    both, tables = right @ right.T, []
    for kind in ("both right", "products"):
        rows = []
        for i, bits in enumerate(right):
            cell = [*both[i, : i + 1], *([bits.sum()] if kind == "products" else [])]
            row = {"arm": str(i // 3), "seed": str(i % 3), "state": "done", "test_pictures": "200"}
            rows.append(row | {"test/top1": str(bits.mean()), f"test/top1 {kind}": " ".join(map(str, cell))})
        tables.append(compare(arms_of_rows(rows), metric_of("test/top1")))
    bits, values = tables
    assert bits.rows[0].half == pytest.approx(values.rows[0].half)
    assert bits.rows[0].difference.images > 0
    assert bits.method == values.method


def test_errors_are_better_when_they_are_less() -> None:
    assert metric_of("test/mae").less_is_better
    assert metric_of("test/mae").by_image
    assert not metric_of("test/r2").less_is_better
    assert metric_of("test/label_accuracy").level(0.5) == "50.00"
