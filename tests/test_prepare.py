"""prepare.py as a user types it."""

from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import digits, has, quick


def prepare(*arguments: str, code: int = 0) -> str:
    done = quick("prepare.py", *arguments, code=code)
    return done.stdout if code == 0 else done.stderr


def test_packs_a_folder_and_says_what_it_is(image_folder: Path, tmp_path: Path) -> None:
    arguments = (
        "data=folder",
        f"data.root={image_folder}",
        "data.size=32",
        "data.crop=24",
        f"data.cache_dir={tmp_path}/c",
    )
    said = prepare(*arguments)
    assert "2 classes: n0, n1" in said
    assert "val            6 images" in said
    (images,) = (tmp_path / "c").glob("folder-*/images.npy")
    before = images.stat().st_mtime_ns
    assert prepare(*arguments).strip() == said.strip()
    assert images.stat().st_mtime_ns == before, "packed once"
    (image_folder / "training" / "n0" / "bad\x1b[31m.jpg").write_text("")
    refused = prepare(*arguments, code=1)
    assert "1 of 23 images cannot be read" in refused
    assert "\x1b" not in refused
    said = prepare(*arguments, "data.on_broken=skip")
    assert "left out, since they cannot be read: 1" in said
    assert "\x1b" not in said


@digits
@pytest.mark.skipif(not has("visualization"), reason="visualization is gone")
def test_shows_a_contact_sheet(tmp_path: Path) -> None:
    said = prepare("augment=light", "data.size=32", "data.crop=28", "show=true", f"outputs={tmp_path}")
    path = Path(said.split("\nsheet")[1].strip())
    assert path.parent.parent == tmp_path / "digits-prepare"
    assert Image.open(path).size == (708, 28 + 10 * 128)


def test_a_group_of_another_program(tmp_path: Path) -> None:
    done = quick("prepare.py", "model=alexnet", code=1)
    assert done.stderr == "error: model: prepare.py has no such key\n"


def test_mistakes(tmp_path: Path) -> None:
    assert "data.crp: no such key. Did you mean data.crop?" in prepare("data.crp=3", code=1)
    assert "show=3: must be true or false" in prepare("show=3", code=1)
    assert "model.lrn: no such key" in prepare("model.lrn=false", code=1)
    assert "no such folder" in prepare("data=folder", f"data.root={tmp_path}/none", code=1)
