"""What prepare.py does: it packs images, describes them, and shows them."""

from pathlib import Path

from omegaconf import DictConfig
from PIL import Image

from alexnet.config import build
from alexnet.config_errors import prefix_errors
from alexnet.data import ImageDataModule
from alexnet.data.splits import CLASS
from alexnet.errors import ArgumentError, UserError, escape_control_chars
from alexnet.run_dir import create_run_dir
from alexnet.validation import check_bool, check_int


def prepare(cfg: DictConfig) -> None:
    """Packs the images of cfg.data and prints a description of them.

    cfg.stream writes them once more, in LitData's format, and cfg.show draws contact_sheet.png.
    """
    with prefix_errors(""):
        check_bool("show", cfg.show)
        check_int("seed", cfg.seed, 0, 2**32 - 1)
        if cfg.jpeg is not None:
            check_int("jpeg", cfg.jpeg, 1, 100)
            if not cfg.stream:
                raise ArgumentError(f"jpeg={cfg.jpeg}: is of a stream; pass stream=FOLDER too")
        stream = None
        if cfg.stream is not None:
            from alexnet.data.streaming import new_stream, write_stream  # optional

            stream = new_stream(cfg.stream)
    data: ImageDataModule = build(cfg, "data", augment=build(cfg, "augment"))
    if stream and data.kind != CLASS:
        raise UserError(f"stream={cfg.stream}: a stream holds classes, and these images have {data.kind}")
    data.setup()
    _print_data(data)
    if stream:
        assert data.packed
        write_stream(data.packed, data.splits, stream, cfg.jpeg)
        size = sum(path.stat().st_size for path in stream.iterdir())
        print(f"stream  {stream}, {size / 1e9:.2f} GB, for data=stream data.root={stream}")
    if cfg.show:
        from alexnet.visualization.sheet import contact_sheet  # optional

        if not data.has("train"):
            raise UserError("show=true: there are no training images to show")
        path = create_run_dir(cfg)[0] / "contact_sheet.png"
        Image.fromarray(contact_sheet(data)).save(path)
        print(f"sheet   {Path(path)}")


def _print_data(data: ImageDataModule) -> None:
    info = data.info
    for name, split in data.splits.items():
        print(f"{name:6} {len(split):9,} images")
    some = escape_control_chars(", ".join(info.classes[:10]))
    if len(info.classes) > 10:
        some += ", ..."
    print(f"{len(info.classes)} classes: {some}")
    print(f"stored  {data.size}x{data.size}x{data.channels}, {data.cache_path or 'in memory'}")
    print(f"mean    {', '.join(f'{m:.4f}' for m in data.normalize.mean.tolist())} of 1")
    print(f"std     {', '.join(f'{s:.4f}' for s in data.normalize.std.tolist())}")
    print(f"SHA-256 {info.fingerprint}")
    for note in data.notes:
        print(escape_control_chars(f"note    {note}"))
    if info.broken:
        print(f"left out, since they cannot be read: {len(info.broken)}")
        print("\n".join(f"  {text}" for text in info.broken))
