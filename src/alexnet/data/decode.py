"""Decodes an image file, and cuts it to the square that is stored."""

from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torchvision.transforms.functional as tv
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from alexnet.errors import ArgumentError

try:  # deprecated since torchvision 0.29; PIL gives the same values, in 1.15 to 2.5 times the time
    from torchvision.io import ImageReadMode, decode_image
except ImportError:
    decode_image = None  # type: ignore[assignment]

THIN = 8  # times longer than wide: what is cut off before such an image is resized is far from the centre
FEW_LEVELS = 32  # an image with fewer values is shown nearly black, or has lost its detail
LEVEL_SAMPLE = 2_000  # values of an image that are looked at first for how many there are

# PIL recognises these and cannot decode them: data files, video, and drawings for another program to render.
NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# Formats with a signature that no text or data file begins with by chance.
SIGNED = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP")
# TIFF 6.0: tags 258, 281. A file may say how many bits, or which largest value, its 16 bits hold.
TIFF_BITS, TIFF_MAX = 258, 281
SIXTEEN_BITS = 65535
Range = tuple[float, float]  # the smallest and the largest value


@cache
def image_extensions() -> frozenset[str]:
    """Returns the file extensions of all formats that PIL decodes, such as .jpg, in lower case."""
    extensions = Image.registered_extensions()
    return frozenset(ext for ext, kind in extensions.items() if kind in Image.OPEN and kind not in NOT_DECODED)


def is_image(path: str | Path) -> bool:
    """Returns whether a file is an image, by its extension, or where that is not known by its content."""
    if Path(path).suffix.lower() in image_extensions():
        return True
    try:
        with Image.open(path, formats=SIGNED):
            return True
    except Exception:  # noqa: BLE001 (for files of another kind PIL raises nearly every kind of error)
        return False


def decode(
    path: Path,
    *,
    background: str | None = "white",
    value_range: Range | None = None,
    min_side: int | None = None,
) -> Tensor:
    """Reads an image file, upright as its EXIF orientation says.

    torchvision decodes plain JPEGs, which is fastest, and 16-bit PNGs, while it still can; PIL decodes all others.

    Args:
        path: the file.
        background: the colour behind transparent pixels, a name or #rrggbb. None ignores transparency, as versions
            before background existed did.
        value_range: of images with more than 8 bits a channel, the values that become black and white.
        min_side: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size where its shorter side has that many pixels then.

    Returns:
        uint8 (3, H, W). Of an image with more than 8 bits, where neither value_range nor the file says which range its
        values have, the values themselves: float32 (C, H, W), for `bounds` and `to_uint8`.

    Raises:
        OSError: if the file cannot be read.
    """
    try:
        with _open(path) as image:
            if min_side and _shrunk(image, min_side):
                return from_pil(image, background=background)
            if decode_image and image.format == "JPEG" and image.mode in ("RGB", "L"):
                data = torch.from_numpy(np.fromfile(path, np.uint8))
                return decode_image(data, ImageReadMode.RGB, apply_exif_orientation=True)
            if deep := _decode_deep_png(image, path):
                return _in_range(*deep, background, value_range)
            return from_pil(image, background=background, value_range=value_range)
    except Exception as error:  # for damaged files PIL raises nearly every kind
        raise OSError(" ".join(str(error).split()) or type(error).__name__) from error


def from_pil(image: Image.Image, *, background: str | None = "white", value_range: Range | None = None) -> Tensor:
    """Converts an image that PIL has opened. Arguments and result are those of `decode`."""
    if image.mode.startswith(("I", "F")):  # more than 8 bits a channel
        return _in_range(_grey_values(image), _known_range(image), background, value_range)
    upright = ImageOps.exif_transpose(image)
    if background is not None and upright.has_transparency_data:
        upright = _on_background(upright, background)
    array = np.array(upright.convert("RGB"))
    return torch.from_numpy(array).permute(2, 0, 1)


def _shrunk(image: Image.Image, min_side: int) -> bool:
    """Has an image decoded at a smaller size, if its format allows it and it is large. Returns whether it is."""
    before = image.size
    image.draft(image.mode, (min_side, min_side))
    return image.size != before


def _grey_values(image: Image.Image) -> Tensor:
    """Returns float32 (1, H, W) of a grey image with more than 8 bits, upright."""
    return torch.from_numpy(np.asarray(ImageOps.exif_transpose(image)).astype(np.float32))[None]


def _in_range(values: Tensor, known: Range | None, background: str | None, value_range: Range | None) -> Tensor:
    """Returns values, float32 (C, H, W), as uint8 if their range is known; else unchanged."""
    found = value_range or known
    return values if found is None else to_uint8(values, found, background)


def _open(path: Path) -> Image.Image:
    """Opens an image, trying the format of the file's extension first. Image.open tries one after the other."""
    likely = Image.registered_extensions().get(path.suffix.lower())
    if likely is not None:
        try:
            return Image.open(path, formats=[likely])
        except UnidentifiedImageError:  # a file under another format's name
            pass
    return Image.open(path)


def to_uint8(values: Tensor, value_range: Range, background: str | None = "white") -> Tensor:
    """Scales values so that the range becomes 0 to 255; what lies outside it becomes black or white.

    Args:
        values: float32 (C, H, W): grey, grey and alpha, RGB, or RGB and alpha, which has 16 bits.
        value_range: the values that become 0 and 255.
        background: as of `decode`.

    Returns:
        uint8 (3, H, W).
    """
    low, high = value_range
    colours, alpha = _split_alpha(values)
    scaled = ((colours - low) * (255 / (high - low))).nan_to_num(0).clamp(0, 255)
    if alpha is not None and background is not None:
        behind = torch.tensor(ImageColor.getrgb(background)[:3]).view(3, 1, 1)
        opacity = alpha / SIXTEEN_BITS
        scaled = scaled * opacity + behind * (1 - opacity)
    return scaled.round().to(torch.uint8).expand(3, -1, -1)


def bounds(values: Tensor) -> Range:
    """Returns the smallest and the largest finite value of an image, float32 (C, H, W), without its alpha channel."""
    colours, _ = _split_alpha(values)
    finite = colours[colours.isfinite()]
    return (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)


def _split_alpha(values: Tensor) -> tuple[Tensor, Tensor | None]:
    return (values[:-1], values[-1:]) if len(values) in (2, 4) else (values, None)


def few_levels(image: Tensor) -> int | None:
    """Returns how many different values a uint8 image (C, H, W) has, if fewer than FEW_LEVELS; else None."""
    as_decoded = image if image.is_contiguous() else image.permute(1, 2, 0)  # else all of it is copied
    values = as_decoded.reshape(-1)
    step = max(1, len(values) // LEVEL_SAMPLE)
    for some in (values[::step], values):
        levels = int(torch.bincount(some, minlength=256).count_nonzero())
        if levels >= FEW_LEVELS:
            return None
    return levels


def check_background(name: str, value: Any) -> str | None:
    """Raises ArgumentError unless `value` is a colour, or None."""
    try:
        if value is not None:
            ImageColor.getrgb(value)
        return value
    except (ValueError, AttributeError, TypeError):
        raise ArgumentError(f"{name}={value}: must be a colour, such as white, black or #808080") from None


def check_value_range(name: str, value: Any) -> Range | None:
    """Returns (low, high) of `high` or [low, high]. Raises ArgumentError for anything else but None."""
    if value is None:
        return None
    pair = [0, value] if isinstance(value, int | float) else value
    numbers = isinstance(pair, list | tuple) and len(pair) == 2
    numbers = numbers and all(isinstance(v, int | float) and not isinstance(v, bool) for v in pair)
    if not numbers or not -np.inf < pair[0] < pair[1] < np.inf:
        raise ArgumentError(f"{name}={value}: must be the largest value, such as 4095, or two numbers, [LOW,HIGH]")
    return float(pair[0]), float(pair[1])


def _decode_deep_png(image: Image.Image, path: Path) -> tuple[Tensor, Range | None] | None:
    """Returns the values, float32 (C, H, W), and the range, if known, of a PNG with 16 bits a channel; else None.

    PIL would keep only the upper 8 bits of colours.
    """
    if image.format != "PNG":
        return None
    with path.open("rb") as file:
        deep, bits = _png_depth(file)
    if not deep:
        return None
    if decode_image:
        data = torch.from_numpy(np.fromfile(path, np.uint8))
        values = decode_image(data, ImageReadMode.UNCHANGED, apply_exif_orientation=True).float()
    elif image.mode.startswith("I"):
        values = _grey_values(image)
    else:
        raise OSError("colours of 16 bits need a torchvision that has torchvision.io.decode_image, such as 0.29")
    return values, None if bits is None else _png_range(values, bits)


def _known_range(image: Image.Image) -> Range | None:
    """Returns the range that the file says its values have, for an image with more than 8 bits a channel; else None."""
    if image.format in ("PPM", "JPEG2000"):  # PIL has scaled these to 16 bits
        return (0, SIXTEEN_BITS)
    return _tiff_range(image) if image.format == "TIFF" else None


def _png_depth(file: BinaryIO) -> tuple[bool, int | None]:
    """Returns whether a PNG has 16 bits a channel, and how many of them its sBIT chunk calls significant, or None.

    PNG specification, 11.2.1 (IHDR) and 11.3.2.5 (sBIT). PIL keeps neither.
    """
    header = file.read(33)  # signature 8, length 4, IHDR 4, width 4, height 4, depth 1, ...
    if header[24] != 16:
        return False, None
    while len(start := file.read(8)) == 8:
        length, kind = int.from_bytes(start[:4], "big"), start[4:]
        if kind == b"sBIT":
            bits = max(file.read(length))
            return True, bits if 1 <= bits <= 16 else None
        if kind in (b"PLTE", b"IDAT"):  # which it must come before
            break
        file.seek(length + 4, 1)
    return True, None


def _png_range(values: Tensor, bits: int) -> Range:
    """Returns the range of a PNG's values whose sBIT chunk says `bits`.

    The specification wants values that are scaled to 16 bits whatever sBIT says; some writers leave them as small as
    they are.
    """
    largest = 2**bits - 1
    return (0, largest if bounds(values)[1] <= largest else SIXTEEN_BITS)


def _tiff_range(image: Image.Image) -> Range | None:
    tags = getattr(image, "tag_v2", {})
    largest = tags.get(TIFF_MAX)
    if largest is not None:
        largest = max(largest) if isinstance(largest, tuple) else largest
        return (0, float(largest)) if largest > 0 else None
    bits = max(tags.get(TIFF_BITS, (16,)))
    return (0, 2**bits - 1) if 8 < bits < 16 else None


def _on_background(image: Image.Image, background: str) -> Image.Image:
    coloured = image.convert("RGBA")
    behind = Image.new("RGBA", coloured.size, ImageColor.getrgb(background))
    return Image.alpha_composite(behind, coloured)


def resize_and_center_crop(image: Tensor, size: int, channels: int) -> NDArray[np.uint8]:
    """Scales uint8 (C, H, W) to a shorter side of `size`, and cuts the centre, (size, size, channels) (section 2)."""
    if image.shape[0] != channels:
        if channels == 3:
            image = image.expand(channels, -1, -1)
        elif torch.equal(image[0], image[1]) and torch.equal(image[0], image[2]):
            image = image[:1]  # the weights of the colours add up to 0.9999: a grey image would get darker
        else:
            image = tv.rgb_to_grayscale(image)
    height, width = image.shape[1:]
    if max(height, width) > THIN * min(height, width):  # resizing all of a strip of 6000x1 would take gigabytes
        image = tv.center_crop(image, [min(height, THIN * width), min(width, THIN * height)])
        height, width = image.shape[1:]
    if min(height, width) != size:  # in whole numbers, as PIL does: by way of float32 it takes four times as long
        scaled = [size * side // min(height, width) for side in (height, width)]
        image = interpolate(image[None], scaled, mode="bilinear", antialias=True)[0]
    if image.shape[1:] != (size, size):
        image = tv.center_crop(image, [size, size])
    return image.permute(1, 2, 0).numpy()
