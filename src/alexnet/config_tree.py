"""Prints the config of a run as a tree."""

from omegaconf import DictConfig, OmegaConf
from rich import print as rich_print
from rich.syntax import Syntax
from rich.tree import Tree


def print_tree(cfg: DictConfig, title: str) -> None:
    """Prints every group of the config as a branch, then the keys that are in no group."""
    tree = Tree(title)
    alone = {}
    for key, value in cfg.items():
        if not isinstance(value, DictConfig):
            alone[key] = value
            continue
        text = OmegaConf.to_yaml(value, resolve=True) if value else "none"
        tree.add(str(key)).add(Syntax(text, "yaml", background_color="default"))
    tree.add(Syntax(OmegaConf.to_yaml(OmegaConf.create(alone)), "yaml", background_color="default"))
    rich_print(tree)
