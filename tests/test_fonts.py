import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.font_manager import findfont, fontManager, get_font

from alexnet import fonts
from alexnet.plotting import confusion, save


def rendered(names: list[str], path: Path) -> bytes:
    """The figure, without any warning of matplotlib's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(confusion("x", names, np.eye(len(names), dtype=np.int64)), path / "figure")
    return (path / "figure.png").read_bytes()


def only_elsewhere() -> str:
    """A character that matplotlib's default font lacks and another font of its own has."""
    default = get_font(findfont(fonts.DEFAULT)).get_charmap()
    own = next(font for font in fontManager.ttflist if font.name == "STIXGeneral")
    return chr(next(code for code in sorted(get_font(own.fname).get_charmap()) if code > 255 and code not in default))


def test_a_character_is_taken_from_a_font_that_has_it(tmp_path: Path) -> None:
    character = only_elsewhere()
    chosen = fonts._fonts_with(frozenset(character))
    assert chosen
    assert ord(character) in get_font(chosen[0].fname).get_charmap()
    rendered([character, "b"], tmp_path)  # without matplotlib's warning of a missing glyph
    assert fonts.image_font([character], 10).getmask(character).getbbox()


def test_a_character_of_no_font_is_said_once(
    tmp_path: Path, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [font for font in fontManager.ttflist if font.name.startswith("DejaVu")]
    monkeypatch.setattr(fonts.fontManager, "ttflist", own)
    for cached in (fonts._warn_missing, fonts._fonts_with):
        cached.cache_clear()
    for _ in range(2):
        rendered(["\u7334\u5b50", "b"], tmp_path)
        rendered(["b", "\u7334\u5b50"], tmp_path)
    assert len([record for record in logged.records if record.levelno == logging.WARNING]) == 1
    fonts._fonts_with.cache_clear()


def test_a_name_that_is_not_utf8_is_drawn(tmp_path: Path) -> None:
    name = b"\xff\xfebad".decode(errors="surrogateescape")
    assert rendered([name, "b"], tmp_path)
