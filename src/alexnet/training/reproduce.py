"""Repeats a run from its own record, and checks whether its metrics are the same."""

import logging
import shlex
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from alexnet.compat import upgrade, upgrade_override
from alexnet.config import replace_config
from alexnet.config_errors import format_error
from alexnet.errors import UserError
from alexnet.io import read_yaml
from alexnet.run_dir import in_sweep, read_metrics, read_run_json
from alexnet.run_identity import CAUSE, OF_TODAY, affects_result

log = logging.getLogger("alexnet")
LENGTH = ("trainer.max_epochs", "trainer.max_steps")


def load_recorded_config(cfg: DictConfig) -> None:
    """Makes `cfg` the config of the run cfg.reproduce. Keys that do not affect a result may be typed too.

    Raises:
        UserError: for a folder that holds no finished run.
    """
    folder = named_folder(cfg, "reproduce")
    if not (folder / "metrics.json").is_file() or not read_run_json(folder):
        raise UserError(f"reproduce={folder}: not the folder of a finished run")
    use_recorded_config(cfg, "reproduce", folder)


def named_folder(cfg: DictConfig, key: str) -> Path:
    """Returns the folder that a key names. Raises UserError if it names none."""
    if not isinstance(cfg[key], str) or not cfg[key]:
        raise UserError(f"{key}={cfg[key]}: must be the folder of a run")
    return Path(cfg[key])


def use_recorded_config(cfg: DictConfig, key: str, folder: Path) -> None:
    """Makes `cfg` the config of the run in `folder`, which `key` names.

    Raises:
        UserError: for an override that would make it another run, and a run that this version of the code does not
            know how to compose.
    """
    if in_sweep():
        raise UserError(f"{key}={folder}: not in a sweep; a sweep is resumed with run_dir=SWEEP")
    if None not in (cfg.resume, cfg.reproduce):
        raise UserError("resume and reproduce: one of them, since each says what the run is")
    recorded = OmegaConf.create(upgrade(read_yaml(folder / "config.yaml", dict)))
    overrides = [upgrade_override(override) for override in read_yaml(folder / "overrides.yaml", list)]
    typed = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    try:
        composed = hydra.compose(HydraConfig.get().job.config_name, overrides, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        commit = read_run_json(folder).get("git_commit")
        raise UserError(f"{key}={folder}: of another version of the code ({commit}): {format_error(error)}") from None
    choices, study = composed.hydra.runtime.choices, composed.study
    arm = list(study.arms[study.arm]) if study is not None and study.arms else []
    _check_typed(key, folder, [*overrides, *arm], typed)
    with read_write(choices):
        choices.study = None
    recorded.logger = composed.logger  # which writes into ${run_dir}; what is recorded names the folder of then
    for name in (*OF_TODAY, *(o.key_or_group for o in typed if not affects_result(o.key_or_group))):
        OmegaConf.update(recorded, name, OmegaConf.select(cfg, name), force_add=True)
    recorded.study = None
    recorded.setdefault("test_epoch", "best")
    recorded.data.setdefault("background", None)  # versions before it ignored transparency
    for name in map(str, composed):
        if name not in (*recorded, "hydra"):  # of a later version, whose default is what was
            recorded[name] = composed[name]
    replace_config(cfg, recorded, choices)
    hydra_config: Any = HydraConfig.get()
    with read_write(hydra_config), open_dict(hydra_config):
        hydra_config.overrides.task = _joined([*overrides, *arm], [o for o in typed if o.key_or_group != key])


def _check_typed(key: str, folder: Path, recorded: list[str], typed: list[Override]) -> None:
    """Refuses an override that would make it another run, and says what to type for that run."""
    for override in typed:
        if override.key_or_group == key or not affects_result(override.key_or_group) or override.input_line in recorded:
            continue
        aim = "to repeat it" if key == "reproduce" else "to resume it"
        new = ["train.py", *_joined(recorded, [override])]
        text = f"{override.input_line}: the run says this itself; leave it out {aim}. A new run: "
        if override.key_or_group in LENGTH:
            new.append(f"init_from={folder}")
            text = (
                f"{override.input_line}: the length of a run is decided when it begins, since learning rates depend on "
                f"it; leave it out {aim}. A new run that starts from its weights: "
            )
        raise UserError(f"{text}python {shlex.join(new)}")


def _joined(recorded: list[str], typed: list[Override]) -> list[str]:
    """Returns the overrides that compose the run without its study, `reproduce` or `resume`.

    What is typed now takes the place of what was recorded.
    """
    later = {override.key_or_group for override in typed}
    parsed = OverridesParser.create().parse_overrides(recorded)
    kept = [o for o in parsed if o.key_or_group not in later and o.key_or_group.split(".")[0] not in CAUSE]
    return [str(override.input_line) for override in (*kept, *typed)]


def check_same_inputs(cfg: DictConfig, fingerprint: str, weights_sha256: str | None) -> None:
    """Checks that the images and initial weights are those of the run that is resumed or reproduced.

    A resumed run starts from its own weights, and has `weights_sha256` of no others.

    Raises:
        UserError: where they are not.
    """
    for key in ("reproduce", "resume"):
        if cfg[key] is None:
            continue
        known = read_run_json(Path(cfg[key]))
        before = {"images": known["data"]["fingerprint"], "weights": known.get("weights")}
        for what, now in (("images", fingerprint), ("weights", weights_sha256)):
            if now is not None and now != before[what]:
                raise UserError(
                    f"{key}={cfg[key]}: its {what} were others (SHA-256 {before[what]!s:.12}, now {now:.12})"
                )


def check_reproduced(cfg: DictConfig, result: dict[str, Any]) -> None:
    """Logs the metrics of the run cfg.reproduce beside those of this one. Raises UserError unless all are the same."""
    lines, same = compare_metrics(cfg, result)
    log.info("%s", "\n".join([f"{'':14} {'then':8}  now", *lines]))
    if not same:
        raise UserError(f"not the same metrics as {cfg.reproduce}")


def compare_metrics(cfg: DictConfig, result: dict[str, Any]) -> tuple[list[str], bool]:
    """Compares this run's metrics with those of the run cfg.reproduce, one by one.

    Returns:
        Lines with the figures and then with what differs between the two that may explain it; and whether all figures
        are the same.
    """
    folder = Path(cfg.reproduce)
    before = read_metrics(folder)
    lines, same = [], True
    for split in ("train", "val", "test"):
        for figure, then in before.get(split, {}).items():
            now = result.get(split, {}).get(figure, float("nan"))
            same &= now == then
            change = "the same" if now == then else f"{now - then:+.2g}"
            lines.append(f"{split}/{figure:8} {then:.6f}  {now:.6f}  {change}")
    if not same:
        old, new = read_run_json(folder), read_run_json(Path(cfg.run_dir))
        for what, a, b in (
            ("git commit", old.get("git_commit"), new.get("git_commit")),
            ("machine", old.get("machine"), new.get("machine")),
            *((name, old["packages"].get(name), new["packages"].get(name)) for name in ("torch", "pytorch-lightning")),
        ):
            if a != b:
                lines.append(f"another {what}: {_short(a)}, now {_short(b)}")
    return lines, same


def _short(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
