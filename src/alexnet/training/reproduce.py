"""A run again, from its own record, and whether its figures come out the same."""

import json
from pathlib import Path
from typing import Any, cast

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from alexnet.checks import UserError
from alexnet.config import become, explain
from alexnet.folders import record
from alexnet.settings import decides


def take_record(cfg: DictConfig) -> None:
    """Makes `cfg` the config of the run cfg.reproduce. What does not decide a result may be typed besides.

    Raises:
        UserError: for a folder that holds no finished run, an override that would make it another run, and a run that
            this version of the code does not know how to compose.
    """
    folder = Path(cfg.reproduce)
    if not (folder / "metrics.json").is_file() or not record(folder):
        raise UserError(f"reproduce={folder}: not the folder of a finished run")
    typed = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    for override in typed:
        if override.key_or_group != "reproduce" and decides(override.key_or_group):
            raise UserError(f"{override.input_line}: the run says this itself; leave it out to repeat it")
    recorded = cast(DictConfig, OmegaConf.load(folder / "config.yaml"))
    overrides = yaml.safe_load((folder / "overrides.yaml").read_text()) or []
    try:
        choices = hydra.compose(
            HydraConfig.get().job.config_name, overrides, return_hydra_config=True
        ).hydra.runtime.choices
    except (HydraException, OmegaConfBaseException) as error:
        commit = record(folder).get("git_commit")
        raise UserError(f"reproduce={folder}: of another version of the code ({commit}): {explain(error)}") from None
    with read_write(choices):
        choices.study = None
    for key in ("outputs", "folder", "reproduce", "data.cache_dir", *(override.key_or_group for override in typed)):
        OmegaConf.update(recorded, key, OmegaConf.select(cfg, key))
    recorded.study = None
    become(cfg, recorded, choices)


def check_pictures(cfg: DictConfig, fingerprint: str) -> None:
    """Raises UserError where the data are not those of the run cfg.reproduce."""
    before = record(Path(cfg.reproduce))["data"]["fingerprint"]
    if fingerprint != before:
        raise UserError(
            f"reproduce={cfg.reproduce}: its pictures were others (SHA-256 {before:.12}, now {fingerprint:.12})"
        )


def agreement(cfg: DictConfig, result: dict[str, Any]) -> tuple[list[str], bool]:
    """Figure by figure, the run cfg.reproduce beside this one, and whether all are the same; then what differs between
    the two that may explain it.
    """
    folder = Path(cfg.reproduce)
    before = json.loads((folder / "metrics.json").read_text())
    lines, same = [], True
    for split in ("train", "val", "test"):
        for figure, then in before.get(split, {}).items():
            now = result.get(split, {}).get(figure, float("nan"))
            same &= now == then
            lines.append(
                f"{split}/{figure:8} {then:.6f}  {now:.6f}  {'the same' if now == then else f'{now - then:+.2g}'}"
            )
    if not same:
        old, new = record(folder), record(Path(cfg.folder))
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
