"""A labels file beside class folders that names each folder, such as monkey_labels.txt of the ten monkey species."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from alexnet.errors import UserError, escape_control_chars

SUFFIXES = (".txt", ".csv", ".tsv")
LARGEST = 1_000_000  # bytes; a list of images is larger than one of classes
# Columns that have a class's name, the best first.
COLUMNS = ("common name", "class name", "classname", "class", "name", "label", "species", "description")


def names_of_folders(place: Path, folders: Sequence[str], top: Path) -> tuple[dict[str, str], Path | None]:
    """Returns the class names by folder, and the labels file they are in; nothing where there is no such file.

    It is a table with a header whose first column has the folders, and has `label` or `class` in its name.

    Args:
        place: the folder that holds the class folders.
        folders: their names.
        top: the file lies in `place`, here, or in a folder between the two.

    Raises:
        UserError: for a file that names some of the folders and not the others.
    """
    for above in (place, *place.parents):
        if not above.is_relative_to(top):
            break
        for file in _candidates(above):
            rows = _read_rows(file)
            found = _names(rows)
            if not found.keys() & set(folders):
                continue
            _check(file, found, folders)
            named = tell_apart(found)  # of all rows: a test folder may lack one of two classes of the same name
            return {folder: named[folder] for folder in folders}, file
    return {}, None


def class_of_folder(folder: Path, classes: Sequence[str]) -> str | None:
    """Returns which of a network's classes a folder is named after, by itself or by a labels file, or None."""
    if folder.name in classes:
        return folder.name
    try:
        names, _ = names_of_folders(folder.parent, [folder.name], folder.parent.parent.parent)
    except (OSError, UserError):  # whatever lies there is not about these images
        return None
    name = names.get(folder.name)
    return name if name in classes else None


def tell_apart(names: Mapping[str, str]) -> dict[str, str]:
    """Returns class names by label or folder, which is added to a name that several have, as ImageNet's two cranes."""
    counts = Counter(names.values())
    return {label: name if counts[name] == 1 else f"{name} ({label})" for label, name in names.items()}


def note_on_similar(classes: Sequence[str]) -> list[str]:
    """Returns a note on classes that may be one: their names differ only in case, spaces and underscores.

    Names of one character are not looked at: they may be letters.
    """
    groups: dict[str, list[str]] = {}
    for name in classes:
        if len(name) > 1:
            groups.setdefault(" ".join(name.replace("_", " ").casefold().split()), []).append(repr(name))
    similar = [" and ".join(names) for names in groups.values() if len(names) > 1]
    if not similar:
        return []
    named = escape_control_chars(", ".join(similar[:5]))
    return [f"classes that may be one, since only case or spaces differ: {named}"]


def _candidates(folder: Path) -> list[Path]:
    found = []
    for path in sorted(folder.iterdir()):
        named = "label" in path.stem.lower() or "class" in path.stem.lower()
        if named and path.suffix.lower() in SUFFIXES and path.is_file() and path.stat().st_size <= LARGEST:
            found.append(path)
    return found


def _read_rows(file: Path) -> list[dict[str, str]]:
    """Returns the rows of a table by its header in lower case; nothing if it is no table."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        header = lines[0] if lines else ""
        rows = list(csv.reader(lines, delimiter=max(",;\t", key=header.count)))
    except (UnicodeDecodeError, csv.Error):
        return []
    titles = [title.strip().lower() for title in rows[0]] if rows else []
    return [dict(zip(titles, map(str.strip, row), strict=False)) for row in rows[1:] if row]


def _names(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Returns the name of each row by its first column; nothing if a value is there twice, as in a list of images."""
    if not rows:
        return {}
    first, *others = rows[0]
    column = next((title for title in COLUMNS if title in others), None)
    if column is None:
        return {}
    named = [(row[first], row[column]) for row in rows if row.get(first) and row.get(column)]
    return dict(named) if len(dict(named)) == len(named) else {}


def _check(file: Path, found: Mapping[str, str], folders: Sequence[str]) -> None:
    """Raises UserError unless every folder has a name."""
    if missing := [folder for folder in folders if folder not in found]:
        raise UserError(
            f"data.root: {file} names no class for the folders {escape_control_chars(', '.join(missing[:5]))}. Add "
            "them, or move the file away, and classes are called by their folders"
        )
