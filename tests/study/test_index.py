"""Pages that are made of report.csv and report.json alone."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from alexnet.errors import UserError
from alexnet.study_adapter.index import PAGES, write_pages
from alexnet.study_adapter.report import report
from tests.conftest import ROOT, program, slow
from tests.study.fakes import STUDY, fake_run, images


def study(folder: Path, arms: int = 3, shares: tuple[float, ...] = (0.9, 0.8, 0.85)) -> Path:
    """Three seeds of each arm, but for one run that failed."""
    right = images(np.random.default_rng(2), 3, 400, *shares)
    names = ["lrn=true", "lrn=false", "lrn=maybe"][:arms]
    for seed in range(3):
        for number, arm in enumerate(names):
            info = {"state": "failed", "record__reason": 'no "memory",\nnone'} if (seed, number) == (2, 2) else {}
            run = fake_run(
                folder / f"{arm},{seed}", seed, right[number, seed], arm, model__lrn=arm, study=STUDY, **info
            )
            (run / "metrics.csv").write_text(
                "epoch,val/top1,gradients/01_conv1,gradients/02_fc8\n"
                f"0,,{0.1**number},1\n0,0.1234567,,\n1,{0.7 + number / 10},,\n"
            )
    jobs = [{"arm": arm, "seed": s, "config_digest": f"{arm}/{s}"} for s in range(4) for arm in names]
    typed = ["study=lrn", "data.root=/home/me/pictures", "outputs=/tmp/x", "seed=0,1,2,3"]
    (folder / "study.json").write_text(
        json.dumps({"jobs": jobs, "varied": ["model.lrn"], "arms": names, "typed": typed})
    )
    return folder


def test_a_page_is_made_again_without_the_runs(tmp_path: Path) -> None:
    """Word for word, with the interval for new images, the curves, the failed run and those not begun."""
    out, said = report([study(tmp_path / "runs")], tmp_path / "pages" / "lrn")
    text, table = (out / "report.md").read_text(), (out / "report.csv").read_text()
    for part in (
        "new seeds and new test images", "(curves.png)", "(gradients.png)", 'lrn=maybe, seed 2: failed (no "memory",',
        "lrn=true, seed 3: not run yet", "`python train.py study=lrn data.root=FOLDER seed=0,1,2,3`.",
    ):  # fmt: skip
        assert part in text
    shutil.rmtree(tmp_path / "runs")
    for name in ("report.md", "curves.png", "gradients.png"):
        (out / name).unlink()
    assert report([out]) == (out, said)
    assert ((out / "report.md").read_text(), (out / "report.csv").read_text()) == (text, table)
    assert (out / "curves.png").stat().st_size > 5000
    assert report([out], tmp_path / "other", metric="test/loss", baseline="lrn=false")[1].startswith(
        "Against lrn=false"
    )


def test_each_two_runs_right_images_are_counted(tmp_path: Path) -> None:
    folder = study(tmp_path / "runs")
    out, _ = report([folder], tmp_path / "out")
    rows = list(csv.DictReader((out / "report.csv").open(newline="")))
    bits = []
    for row in rows[:-1]:
        with np.load(folder / row["folder"] / "test_right.npz") as file:
            bits.append(np.unpackbits(file["top1"], count=int(file["pictures"])))
        assert row["test/top1 both right"].split() == [str((bits[-1] & other).sum()) for other in bits]
    assert rows[-1]["test/top1 both right"] == "", "it failed"
    assert rows[0]["val/top1 by epoch"] == "0.1234567 0.7"


def test_the_index(tmp_path: Path) -> None:
    report([study(tmp_path / "runs", arms=2)], tmp_path / "pages" / "lrn-digits")
    assert write_pages(tmp_path / "pages") == [tmp_path / "pages" / "lrn-digits" / "report.md"]
    lines = (tmp_path / "pages" / "README.md").read_text().splitlines()
    line = next(line for line in lines if line.startswith("| [Does it help?]"))
    assert lines[-1].startswith("| [lrn-digits](lrn-digits/report.md) | lrn=false | ")
    assert (tmp_path / "pages" / "answers.png").stat().st_size > 5000
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    table = (tmp_path / "pages" / "lrn-digits" / "report.md").read_text()
    base, row = ([c.strip() for c in re.findall(rf"\n\| lrn={x} .*", table)[0].split("|")] for x in ("true", "false"))
    assert cells == [
        "[Does it help?](lrn-digits/report.md)", "it does (section 1)",
        f"test/top1, %: lrn=true {base[3]}<br>lrn=false {row[5]} points ({row[6]}): {row[9]}",
        "3", "digits", "0.017", "`python train.py study=lrn data.root=FOLDER seed=0,1,2,3`",
    ]  # fmt: skip


@pytest.mark.parametrize(("shares", "expected"), [((0.9, 0.81, 0.85), "yes"), ((0.8, 0.9, 0.85), "no")])
def test_a_repeated_study_is_compared_with_the_first(shares: tuple[float, ...], expected: str, tmp_path: Path) -> None:
    report([study(tmp_path / "first", arms=2)], tmp_path / "pages" / "lrn")
    report([study(tmp_path / "second", arms=2, shares=shares)], tmp_path / "pages" / "lrn-again")
    write_pages(tmp_path / "pages")
    text = (tmp_path / "pages" / "README.md").read_text()
    (row,) = text.partition("## Repeated")[2].partition("## Replayed")[0].split("|\n")[2:-1]
    links, arm, first, again, agree = (cell.strip() for cell in row.strip("|").split("|"))
    assert links == "[lrn](lrn/report.md), [again](lrn-again/report.md)"
    assert (arm, agree) == ("lrn=false", expected)
    assert first.endswith("points (-19.09 to -3.91): worse")
    assert again != first


@slow
def test_undertrained_studies_are_kept_apart(tmp_path: Path) -> None:
    """On CIFAR-10, where no arm is as accurate as the paper's. And whether the paper's figure is in the interval."""
    right = images(np.random.default_rng(2), 3, 400, 0.9, 0.8, 0.4)
    asked = STUDY | {"paper": {"cifar10": {"low": -0.1}}, "claim": {"cifar10": "it does"}}
    for name, first, second in (("good", 0, 1), ("poor", 2, 2)):
        for seed in range(3):
            for arm, number in (("high", first), ("low", second)):
                fake_run(
                    tmp_path / name / f"{arm}{seed}", seed, right[number, seed], arm, model__lrn=arm, study=asked,
                    record__data={"source": "cifar10", "fingerprint": "f", "pictures": {"test": 400}},
                )  # fmt: skip
        (tmp_path / name / "study.json").write_text(json.dumps({"jobs": [], "varied": []}))
        report([tmp_path / name], tmp_path / "pages" / name)
    write_pages(tmp_path / "pages")
    text = (tmp_path / "pages" / "README.md").read_text()
    trained, undertrained = text.partition("## Trained")[2].split("## Undertrained")
    undertrained = undertrained.partition("## Replayed")[0]
    assert "(good/report.md)" in trained
    assert "(poor/report.md)" in undertrained
    assert "the paper's -10.00 is inside" in trained
    assert "(poor/report.md)" not in trained
    assert "(answers.png)" in trained
    assert "(answers-undertrained.png)" in undertrained
    assert {path.name for path in (tmp_path / "pages").glob("*.png")} == {"answers.png", "answers-undertrained.png"}


@slow
def test_the_pages_of_the_repository_are_what_is_made_of_their_tables(tmp_path: Path) -> None:
    """Typed without folders. Every page, and every figure that it shows."""
    shutil.copytree(ROOT / PAGES, tmp_path / PAGES)
    pages = [tmp_path / PAGES / "README.md", *(tmp_path / PAGES).glob("*/*.md")]
    kept = {path: path.read_text() for path in pages}
    for path in (*pages, *(tmp_path / PAGES).glob("*/*.png")):
        path.unlink()
    made = program(sys.executable, str(ROOT / "report.py"), cwd=tmp_path)
    assert len(made.stdout.splitlines()) == len(kept) - 1 > 2
    assert {path: path.read_text() for path in pages} == kept
    assert (tmp_path / PAGES / "answers.png").exists()
    shown = {path.relative_to(tmp_path) for path in (tmp_path / PAGES).glob("*/*.png")}
    assert shown == {path.relative_to(ROOT) for path in (ROOT / PAGES).glob("*/*.png")}


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"docs/studies: no report.csv in a folder there; name the folders of a study"):
        write_pages(tmp_path / "docs/studies")
    for text, message in (
        ("", "report.csv: cannot be read: it is empty"),
        ("a,b\n1,2\n", "report.csv: no column arm and no column seed; it has a, b"),
        ("arm,seed,state\nx,y,done\n", "seed 'y'"),
        ("arm,seed,state\nx,1,failed\n", "none of its 1 runs is finished"),
        ("arm,seed,state,test/top1\nx,1,done,much\n", "test/top1 'much'"),
    ):
        (tmp_path / "report.csv").write_text(text)
        with pytest.raises(UserError, match=message):
            report([tmp_path])
    done = program(sys.executable, "report.py", "--margin", "0.1", code=2)
    assert "which runs? Options are for the report of a FOLDER" in done.stderr
