from pathlib import Path

import numpy as np
import pytest

from alexnet.data import Augment, ImageDataModule
from alexnet.visualization.sheet import CELL, GAP, LINE, contact_sheet


@pytest.mark.parametrize("packed", [True, False])
def test_one_row_per_class_stored_and_augmented(image_folder: Path, tmp_path: Path, packed: bool) -> None:
    data = ImageDataModule(
        "folder",
        str(image_folder),
        size=40,
        crop=32,
        packed=packed,
        augment=Augment(pca=0.1),
        cache_dir=str(tmp_path / "c"),
    )
    data.setup()
    sheet = contact_sheet(data, variants=3)
    assert sheet.shape == (LINE + 2 * (LINE + CELL + GAP), 4 * (CELL + GAP) + 2 * GAP, 3)
    for row, blue in enumerate((True, False)):  # n0 is blue, n1 is red
        top = LINE + row * (LINE + CELL + GAP) + LINE
        for column in range(4):
            left = column * (CELL + GAP) + (2 * GAP if column else 0)
            cell = sheet[top : top + CELL, left : left + CELL].astype(float).mean((0, 1))
            assert (cell[2] > cell[0] + 60) == blue
            assert (cell[0] > cell[2] + 60) != blue


def test_grey_images() -> None:
    data = ImageDataModule("digits", channels=1, size=16, crop=16)
    data.setup()
    sheet = contact_sheet(data)
    assert (np.ptp(sheet.astype(int), axis=2) == 0).all()
