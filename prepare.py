"""Packs a data set ahead of training: python prepare.py data=cifar10; with show=true it draws a contact sheet."""

import hydra
from omegaconf import DictConfig

from alexnet.cli import handle_errors
from alexnet.config import check


@hydra.main(version_base="1.3", config_path="conf", config_name="prepare")
def main(cfg: DictConfig) -> None:
    """Packs the images of the config."""
    check(cfg)
    from alexnet.data.prepare import prepare

    prepare(cfg)


if __name__ == "__main__":
    with handle_errors():
        main()
