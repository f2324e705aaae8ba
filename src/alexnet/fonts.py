"""Finds fonts that have the characters of class names in any script."""

import logging
import warnings
from collections.abc import Iterable
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findfont, fontManager, get_font
from matplotlib.text import Text
from PIL import ImageFont

log = logging.getLogger("alexnet")

DEFAULT = "DejaVu Sans"  # comes with matplotlib
PREFERRED = ("Noto Sans", "Source Han", "PingFang", "YaHei", "Hei", "Gothic", "Sans")  # shapes like DejaVu's, in order


def choose_fonts(figure: Figure) -> None:
    """Sets the fonts of every text in a figure to those that have its characters, matplotlib's own first.

    Warns once of characters that no installed font has.
    """
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if missing := _not_in_default(text.get_text()):
            warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font")  # `_warn_missing` says it once
            text.set_fontfamily([DEFAULT, *(font.name for font in _fonts_with(missing))])


def image_font(texts: Iterable[str], size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Returns a font for PIL that has the characters of `texts`, or the most of them that one font has."""
    characters = frozenset("".join(texts))
    if all(ord(c) < 128 for c in characters):
        return ImageFont.load_default(size)
    missing = _not_in_default("".join(characters))
    fonts = _fonts_with(missing) if missing else ()
    file = fonts[0].fname if fonts else findfont(DEFAULT)
    return ImageFont.truetype(file, size)


def _not_in_default(text: str) -> frozenset[str]:
    if text.isascii():
        return frozenset()
    return frozenset(c for c in text if c.isprintable() and ord(c) not in _characters(findfont(DEFAULT)))


@cache
def _fonts_with(wanted: frozenset[str]) -> tuple[FontEntry, ...]:
    """Returns installed fonts that together have the characters."""
    chosen, left = [], set(wanted)
    for font in sorted(filter(_has_glyphs, fontManager.ttflist), key=_preference):
        found = {c for c in left if ord(c) in _characters(font.fname)}
        if found:
            chosen.append(font)
            left -= found
        if not left:
            break
    if left:
        _warn_missing("".join(sorted(left)))
    return tuple(chosen)


@cache
def _warn_missing(characters: str) -> None:
    log.warning(
        "no installed font has %s: figures show boxes for them. Install a font that does, such as Noto Sans CJK",
        characters[:20],
    )


@cache
def _characters(file: str) -> frozenset[int]:
    try:
        return frozenset(get_font(file).get_charmap())
    except (OSError, RuntimeError):  # a damaged font
        return frozenset()


def _has_glyphs(font: FontEntry) -> bool:
    """Returns whether a font has real glyphs: a font of last resort draws a box for every character."""
    return "lastresort" not in font.name.lower().replace(" ", "")


def _preference(font: FontEntry) -> tuple[bool, int]:
    unusual = font.style != "normal" or font.weight not in (400, "normal", "regular", "book")
    rank = next((i for i, part in enumerate(PREFERRED) if part in font.name), len(PREFERRED))
    return unusual, rank
