"""Trains a network: python train.py [GROUP=OPTION] [KEY=VALUE] ...; python train.py --help says more."""

import hydra
from omegaconf import DictConfig

from alexnet.cli import handle_errors
from alexnet.config import check
from alexnet.run_dir import in_sweep


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float:
    """Trains, or runs a study or sweep, as the command line says."""
    if cfg.study is not None:
        from alexnet.sweeps.study import take_arm

        take_arm(cfg)
    if cfg.resume == "auto":
        from alexnet.training.resume import resolve_auto

        resolve_auto(cfg)
    if cfg.reproduce is not None:
        from alexnet.training.reproduce import load_recorded_config

        load_recorded_config(cfg)
    elif cfg.resume is not None:
        from alexnet.training.resume import load_interrupted_config

        load_interrupted_config(cfg)
    check(cfg)
    if cfg.print_config:
        from alexnet.config_tree import print_tree

        print_tree(cfg, "train.py")
    from alexnet.training.run import train  # takes seconds: torch is imported only for a config that can be right

    if in_sweep():
        from alexnet.sweeps.skip import run_job

        return run_job(cfg, train)
    return train(cfg)


if __name__ == "__main__":
    with handle_errors():
        main()
