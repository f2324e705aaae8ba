"""Keeps in study.json what a study until it is answered was asked, and which seeds it left out.

A study's directory can hold the runs of several questions, which differ in their settings. Each has a record of its
own, which is found by the jobs that it planned.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from alexnet.io import read_json, write_json
from alexnet.study.looks import with_question
from alexnet.study.sequential import Looks
from alexnet.study_adapter.records import PLAN

KEY = "until"


def question_of(plan: Mapping[str, Any], digests: Collection[str]) -> dict[str, Any]:
    """Returns the record of the question that planned one of these jobs; empty if there is none.

    It has `jobs`, the digests of those that were planned; `asked`, what was asked in turn: metric, mode, margin, arms,
    and after how many pairs; `max_seeds`, as asked last; `pairs`, those of the last look; and `left_out`, the seeds
    that looks passed over since a run of theirs had failed.
    """
    for record in plan.get(KEY, ()):
        if not set(digests).isdisjoint(record["jobs"]):
            return dict(record)
    return {"jobs": [], "asked": [], "max_seeds": None, "pairs": 0, "left_out": []}


def note_question(folder: Path, digests: Collection[str], study: Mapping[str, Any], arms: Sequence[str]) -> None:
    """Adds the present question to study.json, after earlier ones."""
    record = question_of(read_json(folder / PLAN), digests)
    question = study["metric"], study.get("mode"), study["margin"], arms
    record["asked"] = with_question(record["asked"], *question, record["pairs"])
    record["max_seeds"] = study["max_seeds"]
    _write(folder, record, digests)


def note_jobs(folder: Path, digests: Collection[str]) -> None:
    """Notes in study.json that these jobs belong to one question."""
    _write(folder, question_of(read_json(folder / PLAN), digests), digests)


def note_looks(folder: Path, digests: Collection[str], told: Looks, left_out: Collection[int]) -> None:
    """Notes in study.json how far the looks are, and the seeds passed over, which no later look may use."""
    record = question_of(read_json(folder / PLAN), digests)
    record["pairs"] = max(record["pairs"], told.pairs)
    passed = {seed for seed in left_out if told.used and seed < told.used[-1]}
    record["left_out"] = sorted({*record["left_out"], *passed})
    _write(folder, record, digests)


def _write(folder: Path, record: dict[str, Any], digests: Collection[str]) -> None:
    plan = read_json(folder / PLAN)
    record["jobs"] = sorted({*record["jobs"], *digests})
    others = [one for one in plan.get(KEY, ()) if set(one["jobs"]).isdisjoint(record["jobs"])]
    write_json(folder / PLAN, plan | {KEY: [*others, record]})
