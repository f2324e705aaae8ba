"""Images listed in a CSV file."""

import csv
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alexnet.data.sources.images import SPLITS
from alexnet.data.sources.labels import tell_apart
from alexnet.data.sources.layout import SPLIT_WORDS
from alexnet.data.splits import CLASS, KINDS, LABELS, NUMBERS
from alexnet.errors import ArgumentError, escape_control_chars, suggest
from alexnet.validation import check_choice, first_repeated

Row = Mapping[str, str]
DELIMITERS = ",;\t|"
BEYOND = "values beyond the last column"


class CsvImages:
    """An ImageSource: a row of a CSV file for each image.

    Args:
        root: the CSV file. The paths in it are relative to its folder.
        path: the column of images.
        label: the column of classes, names or numbers; of kind=labels or numbers also a list of columns.
        split: the column that says train, val or test; None, or where the file has no column `split`: 15% of the images
            of every class are for validation, 15% for testing.
        class_name: the column of the names of classes, where `label` is a number; None: labels are the names.
        class_file: another CSV file, relative to the folder of the first, with the columns `label` and `class_name`, or
            `name` if that is None.
        pattern: where the image of a value of `path` lies, such as train/{}.jpg for values without folder and ending.
        delimiter: between columns; None: a comma, semicolon, tab or bar, whichever the first line has most of.
        kind: what a label is. class, as is None. labels: any number of them, columns of 0 and 1, or one column of names
            with `separator` between them. numbers: columns of numbers.
        separator: between the names of labels in one column.

    Raises:
        ArgumentError: for a file that cannot be read, with the row, as a spreadsheet counts it, and the column.
    """

    name = "csv"

    def __init__(
        self,
        root: str | None,
        path: str = "path",
        label: str | Sequence[str] = "label",
        split: str | None = "split",
        class_name: str | None = None,
        class_file: str | None = None,
        pattern: str = "{}",
        delimiter: str | None = None,
        kind: str | None = None,
        separator: str = " ",
    ) -> None:
        if root is None:
            raise ArgumentError("root is missing: pass data.root=FILE.csv")
        self.file, self.pattern = Path(root).expanduser(), str(pattern)
        if "{}" not in self.pattern:
            raise ArgumentError(f"pattern={pattern}: must have {{}} in it, where the value of {path} goes")
        rows = _read_rows(self.file, delimiter)
        self.kind = CLASS if kind is None else check_choice("kind", kind, KINDS)
        columns = [label] if isinstance(label, str) else list(label)
        _check_columns(self.file, rows[0], [("path", path), *(("label", column) for column in columns)])
        if split is not None and split not in rows[0]:
            if split != "split":
                _check_columns(self.file, rows[0], [("split", split)])
            split = None
        self.names = [_value(self.file, i, row, path) for i, row in enumerate(rows)]
        if self.kind == CLASS and len(columns) > 1:
            raise ArgumentError(f"label={columns}: of one class an image has one column; task=multilabel has several")
        self.classes: Sequence[str]
        self.labels: Sequence[Any]
        if self.kind == NUMBERS or len(columns) > 1:
            self.classes, self.labels = columns, _numbers(self.file, rows, columns)
        elif self.kind == LABELS:
            self.classes, self.labels = _several(rows, columns[0], separator)
        else:
            self.classes, self.labels = self._classes(rows, columns[0], class_name, class_file, delimiter)
        self.splits = None if split is None else _splits(self.file, rows, split)
        _check_overlap(self.file, self.names, self.splits)
        self.state = self._state()

    def _classes(
        self, rows: Sequence[Row], label: str, class_name: str | None, class_file: str | None, delimiter: str | None
    ) -> tuple[list[str], list[int]]:
        """Returns the names of the classes, and the class of each row."""
        texts = [_value(self.file, i, row, label) for i, row in enumerate(rows)]
        known = sorted(set(texts), key=_in_order)
        numbers = {text: number for number, text in enumerate(known)}
        labels = [numbers[text] for text in texts]
        if class_file is not None:
            named = self.file.parent / class_file
            return _names_of(known, named, _read_rows(named, delimiter), label, class_name or "name"), labels
        if class_name is not None:
            return _names_of(known, self.file, rows, label, class_name), labels
        return known, labels

    def read(self, i: int) -> Path:
        path = self._path(i)
        if not path.is_file():
            raise FileNotFoundError(f"{self.file}, row {i + 2}: no such file: {path}")
        return path

    def _path(self, i: int) -> Path:
        name = self.pattern.replace("{}", self.names[i])
        path = self.file.parent / name
        if "\\" in name and not path.exists():  # written by Windows
            return self.file.parent / name.replace("\\", "/")
        return path

    def _state(self) -> str:
        """Returns the size and modification time of every file."""
        state = hashlib.sha256(self.pattern.encode())
        for i in range(len(self.names)):
            try:
                info = os.stat(self._path(i))
                state.update(f"{info.st_size} {info.st_mtime_ns}\0".encode())
            except OSError:
                state.update(b"missing\0")
        return state.hexdigest()


def _read_rows(file: Path, delimiter: str | None) -> list[Row]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            if delimiter is None:
                delimiter = max(DELIMITERS, key=opened.readline().count)
                opened.seek(0)
            reader = csv.DictReader(opened, delimiter=delimiter, skipinitialspace=True, strict=True, restkey=BEYOND)
            rows: list[Row] = list(reader)
            columns = reader.fieldnames or []
    except OSError as error:
        raise ArgumentError(f"root={file}: cannot be read: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError, TypeError) as error:
        raise ArgumentError(f"root={file}: no CSV file of UTF-8: {error}") from error
    if not rows:
        raise ArgumentError(f"root={file}: has no rows below its first line, which names the columns")
    if twice := first_repeated([name for name in columns if name]):
        raise ArgumentError(f"root={file}: has two columns {twice}; rename one")
    for i, row in enumerate(rows):
        if any(row.get(BEYOND, ())):
            raise ArgumentError(f"root={file}: row {i + 2} has more values than there are columns")
    return rows


def _check_columns(file: Path, row: Row, columns: Sequence[tuple[str, str]]) -> None:
    known = [str(column) for column in row if column != BEYOND]
    for key, column in columns:
        if column not in known:
            near = suggest(column, known) or f" Its columns are {', '.join(map(escape_control_chars, known))}"
            raise ArgumentError(f"{key}={column}: {file} has no such column.{near}")


def _value(file: Path, i: int, row: Row, column: str) -> str:
    value = (row[column] or "").strip()
    if not value:
        raise ArgumentError(f"root={file}: row {i + 2} has nothing in the column {column}")
    return value


def _numbers(file: Path, rows: Sequence[Row], columns: Sequence[str]) -> list[list[float]]:
    """Returns the columns of each row as numbers."""
    found = []
    for i, row in enumerate(rows):
        values = []
        for column in columns:
            text = _value(file, i, row, column)
            try:
                values.append(float(text))
            except ValueError:
                raise ArgumentError(f"label={column}: row {i + 2} of {file} has {text}, and no number") from None
        found.append(values)
    return found


def _several(rows: Sequence[Row], column: str, separator: str) -> tuple[list[str], list[list[int]]]:
    """Returns the names of all labels in a column, and which each row has. An empty cell has none."""
    given = [{*map(str.strip, (row[column] or "").split(separator))} - {""} for row in rows]
    known = sorted(set().union(*given), key=_in_order)
    labels = []
    for names in given:
        labels.append([int(name in names) for name in known])
    return known, labels


def _in_order(label: str) -> tuple[bool, float, str]:
    """Sorts numbers as numbers, before names."""
    is_number = label.removeprefix("-").isdecimal()
    return not is_number, int(label) if is_number else 0, label


def _names_of(labels: Sequence[str], file: Path, rows: Sequence[Row], label: str, name: str) -> list[str]:
    """Returns the name of each label."""
    _check_columns(file, rows[0], [("label", label), ("class_name", name)])
    names: dict[str, str] = {}
    for i, row in enumerate(rows):
        given, named = _value(file, i, row, label), _value(file, i, row, name)
        if names.setdefault(given, named) != named:
            raise ArgumentError(
                f"class_name={name}: row {i + 2} of {file} calls the label {given} {named}, and an earlier row "
                f"{names[given]}"
            )
    if unnamed := [text for text in labels if text not in names]:
        raise ArgumentError(f"class_name={name}: {file} has no name for the label {unnamed[0]}")
    return list(tell_apart({text: names[text] for text in labels}).values())


def _splits(file: Path, rows: Sequence[Row], column: str) -> list[str]:
    found = []
    for i, row in enumerate(rows):
        value = _value(file, i, row, column)
        split = SPLIT_WORDS.get(value.lower())
        if split is None:
            raise ArgumentError(f"split={column}: row {i + 2} of {file} has {value}; known are {', '.join(SPLITS)}")
        found.append(split)
    return found


def _check_overlap(file: Path, names: Sequence[str], splits: Sequence[str] | None) -> None:
    """Raises ArgumentError for an image in two splits, or listed twice where splits are still to be drawn."""
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        before = first.setdefault(name, i)
        if before == i or (splits and splits[i] == splits[before]):
            continue
        where = f"for {splits[before]} and {splits[i]}" if splits else "and no column says which split each is for"
        raise ArgumentError(
            f"root={file}: rows {before + 2} and {i + 2} are the same image, {escape_control_chars(name)}, {where}"
        )
