"""A study: a question, and the runs that answer it. Nothing here imports torch."""

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from alexnet.compat import upgrade_override
from alexnet.config import replace_config
from alexnet.config_errors import prefix_errors
from alexnet.errors import UserError, suggest
from alexnet.study.errors import StudyError
from alexnet.study.sequential import check_most
from alexnet.study_adapter.metrics import check_known, run_metric
from alexnet.sweeps.jobs import check_jobs
from alexnet.validation import check_test_fraction

KEYS = (
    *("question", "claim", "source", "paper", "metric", "mode", "margin", "test", "until", "max_seeds"),
    *("jobs", "digits_test_fraction", "arms", "arm"),
)


def check_study(cfg: DictConfig, typed: list[str]) -> None:
    """Raises UserError for a study with missing or wrong keys, and for an override that an arm also sets.

    Args:
        cfg: the config, whose `study` it is.
        typed: the overrides of the command line.

    Raises:
        UserError: with the key.
    """
    study = cfg.study
    for key in map(str, study):
        if key not in KEYS:
            raise UserError(f"study.{key}: no such key.{suggest(key, KEYS)}")
        if OmegaConf.is_missing(study, key):
            raise UserError(f"study.{key} has no value: write it into the study's file")
    try:
        run_metric(study.metric, study.get("mode"))
        check_known(study.metric, cfg.metrics or (), str(cfg.task._target_).rpartition(".")[2])
    except ValueError as error:
        raise UserError(f"study.{error}") from None
    if isinstance(study.margin, bool) or not isinstance(study.margin, int | float) or not study.margin > 0:
        raise UserError(f"study.margin={study.margin}: must be a number above 0, in the metric's unit")
    paper = study.get("paper") or {}
    by_data = list(paper.values()) if isinstance(paper, DictConfig | dict) else [paper]
    if not all(map(_has_numbers, by_data)):
        raise UserError(
            f"study.paper={paper}: must be the paper's differences from the baseline by data set and arm, "
            "such as imagenet: {no_lrn: -0.014}"
        )
    if study.get("test", "best") not in ("best", "last"):
        raise UserError(f"study.test={study.test}: must be best or last, the epoch of each run that is tested")
    check_jobs(study.get("jobs", "auto"))
    _check_fraction(study.get("digits_test_fraction"))
    _check_until(study, [key_of(override) for override in typed])
    _check_arms(study, typed)


def _check_arms(study: DictConfig, typed: list[str]) -> None:
    setter = {key_of(override): name for name, overrides in arms_of(study).items() for override in overrides}
    if arm := setter.get("seed"):
        raise UserError(f"study.arms.{arm}: sets the seed; arms are compared on the same seeds, which the sweep has")
    for override in typed:
        if arm := setter.get(key_of(override)):
            raise UserError(f"{override}: the study's arm {arm} sets this; leave it out, or ask another study")


def _check_fraction(fraction: object) -> None:
    if fraction is not None:
        with prefix_errors("study"):
            check_test_fraction("digits_test_fraction", fraction)


def _check_until(study: DictConfig, typed: list[str]) -> None:
    until = study.get("until")
    if until is None:
        if "study.max_seeds" in typed:
            raise UserError("study.max_seeds: has no effect without study.until=answered")
        return
    if until != "answered":
        raise UserError(f"study.until={until}: must be answered, or null for the seeds that the study names")
    try:
        check_most("study.max_seeds", study.max_seeds)
    except StudyError as error:
        raise UserError(str(error)) from None


def _has_numbers(node: object) -> bool:
    return isinstance(node, DictConfig) and all(isinstance(value, int | float) for value in node.values())


def arms_of(study: DictConfig) -> dict[str, list[str]]:
    """Returns the overrides of every arm by its name, the baseline first; empty if the study varies keys instead."""
    if study.arms is None:
        return {}
    if not isinstance(study.arms, DictConfig) or not all(isinstance(arm, ListConfig) for arm in study.arms.values()):
        raise UserError("study.arms: must be names with a list of overrides each, such as no_lrn: [model.lrn=false]")
    arms: dict[str, list[str]] = {}
    for name, overrides in study.arms.items():
        arms[str(name)] = [upgrade_override(str(override)) for override in overrides]
    return arms


def take_arm(cfg: DictConfig) -> None:
    """Makes `cfg` the config of the arm study.arm, composed again with its overrides."""
    typed = list(HydraConfig.get().overrides.task)
    check_study(cfg, typed)
    arms, arm = arms_of(cfg.study), cfg.study.arm
    if not arms and arm is None:
        return
    if arm not in arms:
        raise UserError(f"study.arm={arm}: must be one of {', '.join(arms)}.{suggest(str(arm), arms)}")
    composed = hydra.compose(HydraConfig.get().job.config_name, [*typed, *arms[arm]], return_hydra_config=True)
    choices = composed.hydra.runtime.choices
    with open_dict(composed):
        del composed["hydra"]
    replace_config(cfg, composed, choices)


def key_of(override: str) -> str:
    """Returns the key or the group that an override sets."""
    return str(OverridesParser.create().parse_override(override).key_or_group)
