"""Decides which folders of a tree are splits, and which are classes."""

import re
from dataclasses import dataclass
from pathlib import Path

from alexnet.data.sources.walk import subfolders, walk
from alexnet.errors import ArgumentError, escape_control_chars

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# Words that may stand beside a split's in the name of its folder and say nothing more: train_images, TestSet.
FILLERS = {"set", "data", "dataset", "image", "images", "img", "imgs", "photo", "photos", "split", "folder", "dir"}

LIST_THEM = "Where a table or the files' names have the labels, list the images in a CSV file: data=csv"
SAMPLED_CLASSES = 3  # class folders that are looked into for folders of splits


@dataclass(frozen=True)
class Layout:
    """The folder of each split below a root.

    Attributes:
        splits: train, val or test, and the folder that holds its class folders.
        named: whether the splits have folders of their own; else the root is `train`.
        notes: what the user should know of folders that are not used.
    """

    splits: dict[str, Path]
    named: bool
    notes: list[str]


def find_classes(folder: Path) -> list[str]:
    """Returns the names of the class folders in a folder, sorted."""
    return sorted(path.name for path in subfolders(folder))


def split_of(name: str) -> str | None:
    """Returns the split that a folder's name says: `train` for Training, train_images, seg_train and train2014."""
    split, _ = _parse(name)
    return split


def find_split(root: Path, split: str) -> Path | None:
    """Returns the folder of a split below `root`, or None; of several, the one whose name says nothing more."""
    found = [path for path in subfolders(root) if split_of(path.name) == split] if root.is_dir() else []
    found.sort(key=lambda path: len(path.name))
    return _unwrap(found[0]) if found else None


def find_splits(root: Path, classes: list[str] | None = None) -> Layout:
    """Returns the folder of each split below `root`. Without any, `root` itself holds the class folders.

    Names are compared without case, `-`, `_` and digits. A folder that holds nothing but one folder of the same split,
    as archives leave them (training/training), is passed through.

    Args:
        root: the tree.
        classes: the names that class folders must have, where they are known; `root` is then not mistaken.

    Raises:
        ArgumentError: if there is no such folder, no class folder, or if the tree can be read in two ways.
    """
    if not root.is_dir():
        problem = "a file, and no folder; unpack it if it is an archive" if root.exists() else "no such folder"
        raise ArgumentError(
            f"root={root}: {problem}. Name one with train/CLASS/*.jpg, and the same for val and test if there are"
        )
    root = _unwrap_root(root)
    folders = subfolders(root)
    if classes is not None and folders and {path.name for path in folders} <= set(classes):
        return Layout({"train": root}, named=False, notes=[])
    candidates = [path for path in folders if split_of(path.name)]
    others = [path for path in folders if candidates and path not in candidates and _holds_images(path)]
    places = {path: _unwrap(path) for path in candidates}
    labelled = [path for path in candidates if find_classes(places[path])]
    if not labelled:
        return _without_class_folders(root, folders, candidates, others)
    if len({split_of(path.name) for path in candidates}) == 1 and others:
        raise _two_readings(root, candidates, others)
    splits: dict[str, Path] = {}
    for path in labelled:
        split = str(split_of(path.name))
        if split in splits:
            raise ArgumentError(
                f"root={root}: {splits[split].relative_to(root)} and {path.name} both look like the {split} "
                "images. Move one of them out of this folder"
            )
        splits[split] = places[path]
    _refuse_splits_in_classes(root, splits)
    notes = [_unused(path) for path in others]
    for path in candidates:
        split = str(split_of(path.name))
        if path in labelled:
            continue
        if split in splits or split == "train":
            notes.append(_unused(path))
        else:
            done = {"test": "tested", "val": "validated"}[split]
            notes.append(f"{path}: holds {_images_in(path)} and no class folders, so no labels: nothing is {done}")
            splits[split] = places[path]
    return Layout(splits, named=True, notes=notes)


def _without_class_folders(root: Path, folders: list[Path], candidates: list[Path], others: list[Path]) -> Layout:
    """Returns the layout of a tree in which no folder named like a split holds class folders."""
    full = [path for path in candidates if _holds_images(path)]
    if candidates and not others:
        names = " and ".join(escape_control_chars(path.name) for path in full or candidates)
        raise ArgumentError(
            f"root={root}: {names}: holds no class folders. Expected train/CLASS/*.jpg, and the same for val and "
            f"test if there are. {LIST_THEM}"
        )
    if full and _named_like_splits(full):
        raise _two_readings(root, full, others)
    if not folders:
        raise ArgumentError(f"root={root}: {root} holds no class folders; expected CLASS/*.jpg in it. {LIST_THEM}")
    layout = Layout({"train": root}, named=False, notes=[])
    _refuse_splits_in_classes(root, layout.splits)
    return layout


def _named_like_splits(folders: list[Path]) -> bool:
    """Returns whether folders are named after splits, and not after classes.

    Either a name says nothing but a split, as Train does and bullet_train does not, or two differ in the split alone,
    as seg_train and seg_test do.
    """
    rests = [(split_of(path.name), _parse(path.name)[1]) for path in folders]
    alone = any(not rest for _, rest in rests)
    return alone or len({rest for _, rest in rests}) < len({*rests})


def _refuse_splits_in_classes(root: Path, splits: dict[str, Path]) -> None:
    """Raises ArgumentError for CLASS/train/*.jpg, which would put test images into the training set."""
    for place in splits.values():
        for folder in subfolders(place)[:SAMPLED_CLASSES]:
            inside = subfolders(folder)
            if len({split_of(path.name) for path in inside} - {None}) > 1:
                names = ", ".join(path.name for path in inside)
                raise ArgumentError(
                    f"root={root}: the class folder {folder.relative_to(root)} holds {names}. Splits come first: "
                    f"{inside[0].name}/{folder.name}/*.jpg"
                )


def _two_readings(root: Path, candidates: list[Path], others: list[Path]) -> ArgumentError:
    split, other = (escape_control_chars(folders[0].name) for folders in (candidates, others))
    return ArgumentError(
        f"root={root}: {split} may be the {split_of(candidates[0].name)} images, or a class beside {other}. If it is a "
        f"class, move all class folders into a folder train: train/{split}, train/{other}. If it is not, move {other} "
        f"out of {root}"
    )


def _parse(name: str) -> tuple[str | None, tuple[str, ...]]:
    """Returns the split in a name, if there is just one, and the other words in it."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    words = re.findall(r"[^\W\d_]+", apart)
    found, rest = set(), list[str]()
    for word in words:
        stem = _without_filler(word)
        if stem in SPLIT_WORDS:
            found.add(SPLIT_WORDS[stem])
        elif word not in FILLERS:
            rest.append(word)
    split = found.pop() if len(found) == 1 else None
    return split, tuple(rest)


def _without_filler(word: str) -> str:
    """Returns `train` for `trainset`, `test` for `testdata`, and so on."""
    for filler in FILLERS:
        if word.endswith(filler) and word.removesuffix(filler) in SPLIT_WORDS:
            return word.removesuffix(filler)
    return word


def _unwrap_root(root: Path) -> Path:
    """Returns `root`, or the one folder in it that has its name or holds the splits."""
    inside = subfolders(root)
    if len(inside) != 1 or split_of(inside[0].name):
        return root
    splits = {split_of(path.name) for path in subfolders(inside[0])} - {None}
    wraps_splits = "train" in splits and len(splits) > 1
    same_name = inside[0].name.lower() == root.resolve().name.lower()
    return inside[0] if wraps_splits or (same_name and subfolders(inside[0])) else root


def _unwrap(folder: Path) -> Path:
    """Returns `folder`, or the one folder of the same split if that is all it holds."""
    inside = subfolders(folder)
    wraps = len(inside) == 1 and split_of(inside[0].name) == split_of(folder.name)
    return inside[0] if wraps else folder


def _holds_images(folder: Path) -> bool:
    return next(walk(folder), None) is not None


def _images_in(folder: Path) -> str:
    n = sum(1 for _ in walk(folder))
    return f"{n:,} image{'s' * (n != 1)}"


def _unused(folder: Path) -> str:
    return f"{folder}: {_images_in(folder)} in it are not used"
