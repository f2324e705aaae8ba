"""Files of every kind that somebody may have, and the pixels that come out of them."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from alexnet.data import ImageDataModule
from alexnet.data.decode import bounds, decode, few_levels, image_extensions, is_image, resize_and_center_crop, to_uint8
from alexnet.data.lazy import LazyDecodedImages
from alexnet.data.packing import pack_in_memory
from alexnet.data.sources.folder import Reading, open_folder
from tests.conftest import slow

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # 12 bits


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def png(path: Path, array: np.ndarray, colour: int, significant: bytes = b"") -> Path:
    """A PNG with 16 bits a channel, (H, W, C), of a PNG colour type, which PIL cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = array.shape[:2]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
        + (chunk(b"sBIT", significant) if significant else b"")
        + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    )  # fmt: skip
    return path


def expected(values: np.ndarray, largest: float) -> np.ndarray:
    return np.round(values.astype(np.float64) * 255 / largest)


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bits_have_the_range_that_is_asked_for(kind: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"x.{kind}", Image.fromarray(RAMP))
    assert bounds(decode(path)) == (0, 4095), "not known from the file"
    image = decode(path, value_range=(0, 4095))
    assert image.dtype == torch.uint8
    assert np.abs(image[0].numpy() - expected(RAMP, 4095)).max() <= 1
    assert few_levels(image) is None
    dark = decode(path, value_range=(0, 65535))
    assert few_levels(dark) == 17, "what these were before: 0 to 16"


def test_what_files_say_of_their_bits(tmp_path: Path) -> None:
    raw = png(tmp_path / "raw.png", RAMP, 0, bytes([12]))
    scaled = png(tmp_path / "scaled.png", RAMP * 16, 0, bytes([12]))  # as the specification has it
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = 4095
    tiff = save(tmp_path / "x.tif", Image.fromarray(RAMP), tiffinfo=tags)
    for path in (raw, scaled, tiff):
        image = decode(path)
        assert image.dtype == torch.uint8, path.name
        assert np.abs(image[0].numpy() - expected(RAMP, 4095)).max() <= 1, path.name
    (tmp_path / "x.pgm").write_bytes(b"P5 64 64 4095\n" + RAMP.astype(">u2").tobytes())
    assert np.abs(decode(tmp_path / "x.pgm")[0].numpy() - expected(RAMP, 4095)).max() <= 1


def test_without_torchvisions_decoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are deprecated: PIL gives the same values, but for colours of 16 bits."""
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (31, 45, 3), np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation
    files = [
        save(tmp_path / "a.jpg", colours, quality=80),
        save(tmp_path / "b.jpg", colours.convert("L")),
        save(tmp_path / "c.jpg", colours, exif=turned),
        save(tmp_path / "d.jpg", colours, progressive=True, subsampling=0),
        save(tmp_path / "e.png", Image.fromarray(RAMP)),
        png(tmp_path / "f.png", RAMP[..., None], colour=0, significant=bytes([12])),
    ]
    deep = png(tmp_path / "g.png", np.stack([RAMP] * 3, -1), colour=2)
    with_torchvision = [decode(file) for file in files]
    assert decode(deep).shape == (3, 64, 64)
    monkeypatch.setattr("alexnet.data.decode.decode_image", None)
    for file, expected_values in zip(files, with_torchvision, strict=True):
        torch.testing.assert_close(decode(file), expected_values, rtol=0, atol=0)
    with pytest.raises(OSError, match="colours of 16 bits need a torchvision"):
        decode(deep)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_large_jpegs_are_decoded_smaller(mode: str, tmp_path: Path) -> None:
    """At a power of two of their size, so that what is stored is nearly what it is without."""
    noise = np.random.default_rng(1).integers(0, 256, (12, 16, 3), np.uint8)
    image = Image.fromarray(noise).resize((1024, 768), Image.Resampling.BICUBIC).convert(mode)
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation
    large = save(tmp_path / "large.jpg", image, quality=90, exif=turned)
    found = decode(large, min_side=100)
    assert found.shape == (3, 256, 192)
    stored, whole = (resize_and_center_crop(each, 100, 3).astype(float) for each in (found, decode(large)))
    assert np.abs(stored - whole).mean() < 1.5
    for file, side in ((large, 400), (save(tmp_path / "large.png", image), 100)):
        assert torch.equal(decode(file, min_side=side), decode(file))


def test_colours_of_sixteen_bits(tmp_path: Path) -> None:
    colours = np.stack([RAMP, RAMP[::-1], RAMP.T], 2)
    image = decode(png(tmp_path / "x.png", colours, 2), value_range=(0, 4095))
    assert np.abs(image.permute(1, 2, 0).numpy() - expected(colours, 4095)).max() <= 1
    alpha = np.dstack([colours, np.full_like(RAMP, 0)])
    for name, value in (("white", 255), ("black", 0)):
        image = decode(png(tmp_path / "a.png", alpha, 6), value_range=(0, 4095), background=name)
        assert (image == value).all()


def test_values_of_thirty_two_bits(tmp_path: Path) -> None:
    signed = (np.arange(4096).reshape(64, 64) - 1000).astype(np.int32)
    assert bounds(decode(save(tmp_path / "x.tif", Image.fromarray(signed)))) == (-1000, 3095)
    real = np.linspace(-0.5, 1, 4096, dtype=np.float32).reshape(64, 64)
    real[0, 0] = np.nan
    path = save(tmp_path / "f.tif", Image.fromarray(real))
    assert bounds(decode(path))[1] == 1
    image = to_uint8(decode(path), (0, 1))
    assert (int(image.min()), int(image.max())) == (0, 255)


@slow
def test_a_data_set_has_its_own_largest_value(tmp_path: Path) -> None:
    for i in range(20):
        for name in ("a", "b"):
            save(tmp_path / "set" / name / f"{i}.png", Image.fromarray(RAMP if i else RAMP // 2))
    packed = pack_in_memory(open_folder(tmp_path / "set"), 64, 1)
    assert packed.info.value_range == (0, 4095)
    train = packed.splits["train"]
    assert train.images[train.rows].max() == 255
    assert packed.info.mean[0] == pytest.approx(0.5, abs=0.05)
    assert any("4095" in note for note in packed.info.notes)
    data = ImageDataModule(
        "folder", str(tmp_path / "set"), size=64, crop=64, cache_dir=str(tmp_path / "c"), packed=False
    )
    data.setup()
    assert data.describe()["value_range"] == (0, 4095), "which other images are read with"
    images = data.splits["train"].images
    assert isinstance(images, LazyDecodedImages)
    assert max(images[row].max() for row in range(len(data.splits["train"]))) == 255
    wide = pack_in_memory(open_folder(tmp_path / "set", Reading(value_range=(0, 65535))), 64, 1)
    assert wide.splits["train"].images.max() == 16
    assert any("fewer than 32 levels" in note for note in wide.info.notes)


def test_an_image_of_few_levels_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for i in range(8):
            ramp = np.roll(RAMP // 16, 2 * i + (name == "b"))
            save(tmp_path / name / f"{i}.png", Image.fromarray(ramp.astype(np.uint8)))
    assert not pack_in_memory(open_folder(tmp_path), 64, 1).info.notes
    save(tmp_path / "a" / "dark.png", Image.fromarray((RAMP // 256).astype(np.uint8)))
    (note,) = pack_in_memory(open_folder(tmp_path), 64, 1).info.notes
    assert "a/dark.png (16)" in note


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "L", "RGB", "1"])
def test_transparency_shows_the_background(mode: str, tmp_path: Path) -> None:
    """A black square in a transparent image whose hidden pixels are black too."""
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 10, 20))
    options: dict[str, Any] = {}
    if mode == "P":
        image = Image.new("P", (20, 20), 1)
        image.putpalette([0] * 768)
        image.paste(0, (0, 0, 10, 20))
        options = {"transparency": 1}
    elif mode in ("L", "RGB", "1"):  # a tRNS chunk that names one colour
        key: Any = {"L": 7, "RGB": (7, 7, 7), "1": 1}[mode]
        image = Image.new(mode, (20, 20), key)
        image.paste(0, (0, 0, 10, 20))
        options = {"transparency": key}
    elif mode != "PA":
        image = image.convert(mode)
    path = save(tmp_path / "x.png", image, **options)
    if mode == "PA":
        path = save(tmp_path / "x.webp", image, lossless=True)
    for name, value in (("white", 255), ("#808080", 128)):
        found = decode(path, background=name)
        assert (found[:, :, :10] == 0).all()
        assert (found[:, :, 10:] == value).all(), name


def test_every_format_that_pil_reads_is_an_image(tmp_path: Path) -> None:
    image = Image.fromarray(np.tile(np.arange(0, 240, 4, dtype=np.uint8), (60, 1))).convert("RGB")
    wanted = {".gif", ".jfif", ".ppm", ".pgm", ".webp", ".tga", ".jp2", ".jpe", ".bmp", ".tiff", ".ico", ".pcx"}
    assert wanted <= image_extensions()
    assert not image_extensions() & {".pdf", ".eps", ".mpg", ".h5", ".txt", ".heic"}
    for ext in sorted(wanted):
        kind = "JPEG" if ext == ".jfif" else None
        path = save(tmp_path / f"x{ext}", image, format=kind)
        assert is_image(path)
        assert decode(path).shape[0] == 3
    (tmp_path / "x.png").write_bytes((tmp_path / "x.bmp").read_bytes())
    (tmp_path / "plain").write_bytes((tmp_path / "x.webp").read_bytes())
    (tmp_path / "text").write_text("P1 is a text\n")
    assert is_image(tmp_path / "plain"), "by its content"
    assert not is_image(tmp_path / "text")


def test_what_is_left_out_is_counted_by_extension(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for ext in ("gif", "ppm", "jfif"):
            save(tmp_path / name / f"x.{ext}", Image.new("RGB", (9, 9)), format="JPEG" if ext == "jfif" else None)
    for name in ("1.heic", "2.heic", "notes.txt"):
        (tmp_path / "a" / name).write_text(name)
    (tmp_path / "b" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "c").symlink_to(tmp_path / "nowhere")
    (tmp_path / "labels.csv").write_text("")
    source = open_folder(tmp_path)
    assert sum(len(split.labels) for split in source.splits.values()) == 6
    note = source.notes[0]
    assert "2 .heic (such as " in note
    assert "1 .txt" in note
    assert "1 .csv" in note
    assert "2 links that lead nowhere" in note
    assert str(tmp_path / "a" / "notes.txt") in note


@pytest.mark.parametrize("value", ["whit", 7, "#12", [1, 2]])
def test_a_background_is_a_colour(value: Any) -> None:
    with pytest.raises(ValueError, match="background="):
        ImageDataModule("digits", background=value)


@pytest.mark.parametrize("value", ["4095", 0, [5, 5], [1, 2, 3], True, [0, float("inf")], float("nan")])
def test_a_value_range_is_one_number_or_two(value: Any) -> None:
    with pytest.raises(ValueError, match="value_range="):
        ImageDataModule("digits", value_range=value)
