"""What prepare.py does: pack, say what there is, and show it."""

from pathlib import Path

from omegaconf import DictConfig
from PIL import Image

from alexnet.checks import UserError, flag, integer, printable
from alexnet.config import build, named
from alexnet.data import PictureData
from alexnet.folders import new_folder
from alexnet.pictures.sheet import contact_sheet


def prepare(cfg: DictConfig) -> None:
    """Packs the pictures of cfg.data, prints what they are, and with cfg.show writes contact_sheet.png."""
    with named(""):
        flag("show", cfg.show)
        integer("seed", cfg.seed, 0, 2**32 - 1)
    data: PictureData = build(cfg, "data", augment=build(cfg, "augment"))
    data.setup()
    about = data.about
    for name, pictures in data.splits.items():
        print(f"{name:6} {len(pictures):9,} pictures")
    some = printable(", ".join(about.classes[:10]))
    print(f"{len(about.classes)} classes: {some}{', ...' if len(about.classes) > 10 else ''}")
    print(f"stored  {data.size}x{data.size}x{data.channels}, {data.where or 'in memory'}")
    print(f"mean    {', '.join(f'{m:.4f}' for m in data.mean.tolist())} of 1")
    print(f"std     {', '.join(f'{s:.4f}' for s in data.std.tolist())}")
    print(f"SHA-256 {about.fingerprint}")
    if about.broken:
        print(f"left out, since they cannot be read: {len(about.broken)}")
        print("\n".join(f"  {text}" for text in about.broken))
    if cfg.show:
        if not data.has("train"):
            raise UserError("show=true: there are no training pictures to show")
        path = new_folder(cfg)[0] / "contact_sheet.png"
        Image.fromarray(contact_sheet(data)).save(path)
        print(f"sheet   {Path(path)}")
