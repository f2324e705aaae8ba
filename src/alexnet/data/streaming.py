"""Images in LitData's optimised format, for data sets larger than any disk.

They are written once, then read from a folder or from an object store, chunk by chunk. Beside LitData's index.json and
chunks lie the files that a packed folder has: what is known of the images, and their labels. The training images are
written in random order, so that one chunk after another is as good as shuffled.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image
from rich.progress import MofNCompleteColumn, Progress

from alexnet.cores import available_cores
from alexnet.data.packed import FORMAT, DatasetInfo, PackedDataset, PackedSplit, appears_whole, load, read_info, save
from alexnet.data.splits import shuffled
from alexnet.errors import ArgumentError, UserError, escape_control_chars
from alexnet.io import is_remote

CHUNK_BYTES = 64_000_000  # LitData's own choice for object stores
KEEP_FREE, KEEP_CHUNKS = 0.1, 8  # of a disk on which chunks are kept, a share; and those that are read just now
FORMATS = (["numpy", "int"], ["bytes", "int"])  # of image and label. Others could be pickles, which run what they say

os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")  # it would ask the network for a newer version
for _name in ("litdata", "botocore"):
    logging.getLogger(_name).setLevel(logging.ERROR)


def new_stream(folder: Any) -> Path:
    """Returns where a stream can be written. Raises ArgumentError if `folder` exists, or is not on this machine."""
    if not isinstance(folder, str) or not folder:
        raise ArgumentError(f"stream={folder}: must be the path of a new folder")
    if is_remote(folder):
        raise ArgumentError(
            f"stream={escape_control_chars(folder)}: must be a folder here; copy it from there when it is written"
        )
    path = Path(folder).expanduser()
    if path.exists():
        raise ArgumentError(f"stream={escape_control_chars(folder)}: is there already; name another, or delete it")
    if find_spec("litdata") is None:  # which is said before anything is packed
        raise ArgumentError(
            f"stream={escape_control_chars(folder)}: needs a package that is not installed: pip install litdata"
        )
    return path


def write_stream(
    packed: PackedDataset, splits: Mapping[str, PackedSplit], folder: Path, jpeg: int | None = None
) -> None:
    """Writes the images of `splits` to `folder`, which must not be there yet.

    Args:
        packed: the data set that they are of.
        splits: by name.
        folder: is made.
        jpeg: quality, 1 to 100, of the JPEG that each image becomes; None keeps every pixel.
    """
    from litdata.streaming import Cache

    train = splits["train"]
    splits = {**splits, "train": train.take(shuffled(np.arange(len(train)), "stream"))}
    jobs = [(split, i) for split in splits.values() for i in range(len(split))]
    names = {name: packed.names_of(name, split.rows) for name, split in splits.items()}
    written, start = {}, 0
    for name, split in splits.items():
        written[name] = replace(split, rows=np.arange(start, start + len(split)), file=None)
        start += len(split)

    def sample(job: tuple[PackedSplit, int]) -> tuple[dict[str, Any], bytes]:
        split, i = job
        array, label = np.array(split.images[split.rows[i]]), int(split.labels[i])
        if jpeg is None:
            return {"image": array, "label": label}, hashlib.sha256(array.data).digest()
        image = _encoded(array, jpeg)
        return {"image": image, "label": label}, hashlib.sha256(_decoded(image).data).digest()

    lock = FileLock(f"{folder}.lock")
    bar = Progress(*Progress.get_default_columns(), MofNCompleteColumn(), disable=len(jobs) < 2000)
    try:
        with lock, appears_whole(folder) as part, ThreadPoolExecutor(available_cores()) as pool, bar:
            task, writer = bar.add_task("writing", total=len(jobs)), Cache(str(part), chunk_bytes=CHUNK_BYTES)
            digest = hashlib.sha256(str({name: split.labels.tolist() for name, split in splits.items()}).encode())
            for done in range(0, len(jobs), 256):  # so many at a time, lest the disk be slower than the processor
                for row, (item, sha256) in enumerate(pool.map(sample, jobs[done : done + 256]), done):
                    writer[row] = item
                    digest.update(sha256)
                bar.update(task, completed=row + 1)
            writer.done()
            writer.merge()
            info = replace(packed.info, fingerprint=digest.hexdigest(), state="stream", broken=[])
            save(PackedDataset(written, info, names, packed.mean_image), part)
    except OSError as error:
        raise UserError(f"stream={folder}: cannot be written: {error.strerror or error}") from error
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)


@dataclass(frozen=True)
class Stream:
    """Images that LitData reads.

    Attributes:
        folder: where LitData reads.
        shape: of an image, (size, size, C).
        info: what is known of the images.
        files: of each chunk, its name, its length in bytes and the number of images in it.
    """

    root: str
    folder: Path
    info: DatasetInfo
    shape: tuple[int, int, int]
    files: list[tuple[str, int, int]]

    def open(self) -> PackedDataset:
        return load(self.folder, cast(NDArray[np.uint8], Streamed(self)))


class Streamed:
    """Has the interface of an array of packed images, and reads an image when a window of it is read.

    chunks: the number of the chunk in which each image lies. One is read fast where the last one was of its chunk.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.chunks = np.repeat(np.arange(len(stream.files)), [count for *_, count in stream.files])
        self.shape = (len(self.chunks), *stream.shape)
        self.process, self.chunk, self.reader = 0, -1, cast(Any, None)  # of which process, and its last chunk

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"process": 0, "reader": None}

    def __getitem__(self, place: Any) -> NDArray[np.uint8]:
        row, *window = place if isinstance(place, tuple) else (place,)
        try:
            if self.process != os.getpid():
                self._start()
            if self.chunk != self.chunks[row] and is_remote(self.stream.root):
                name, size, _ = self.stream.files[self.chunks[row]]
                _fetch_chunk(self.stream.root, self.stream.folder, name, size)
            self.chunk = int(self.chunks[row])
            sample = self.reader[int(row)]["image"]
            image = sample if isinstance(sample, np.ndarray) else _decoded(sample)
        except Exception as error:  # whatever a store, a network or a damaged file leads to
            reason = escape_control_chars(" ".join(str(error).split())[:200] or type(error).__name__)
            raise UserError(
                f"data.root={escape_control_chars(self.stream.root)}: cannot read image {row}: {reason}"
            ) from error
        return image[tuple(window)]

    def _start(self) -> None:
        from litdata import StreamingDataset

        self.reader = StreamingDataset(str(self.stream.folder), batch_decode=0)  # one by one: neighbours are not next
        self.process, self.chunk = os.getpid(), -1


def find_stream(root: str, cache_dir: Path) -> Stream:
    """Returns what is known about the images at `root`, fetched into `cache_dir` if that is not a folder here.

    Raises ArgumentError if there is no such stream, or its samples are of another kind.
    """
    import litdata  # noqa: F401  # that it is missing is said before anything is fetched

    where = f"root={escape_control_chars(root)}"
    folder = _fetch_known(root, cache_dir) if is_remote(root) else Path(root).expanduser()
    if not (folder / "index.json").is_file() or not (folder / "about.json").is_file():
        raise ArgumentError(f"{where}: no stream lies there; python prepare.py data=SOURCE stream=FOLDER writes one")
    try:
        info, index = read_info(folder), json.loads((folder / "index.json").read_text(encoding="utf-8"))
        shape, kind = np.load(folder / "mean.npy", mmap_mode="r").shape, index["config"]["data_format"]
        files = [(str(c["filename"]), int(c["chunk_bytes"]), int(c["chunk_size"])) for c in index["chunks"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArgumentError(f"{where}: its files are damaged: {escape_control_chars(str(error))}") from error
    if kind not in FORMATS:
        raise ArgumentError(
            f"{where}: samples of {escape_control_chars(str(kind))} are not read; python prepare.py writes others"
        )
    if info.format != FORMAT:
        raise ArgumentError(f"{where}: written by another version (format {info.format}, not {FORMAT}): write it again")
    for name, size, _ in files:
        if Path(name).name != name:
            raise ArgumentError(f"{where}: a chunk called {escape_control_chars(name)} is not in its folder")
        if not is_remote(root) and (not (folder / name).is_file() or (folder / name).stat().st_size < size):
            raise ArgumentError(f"{where}: {name} is missing or too short; copy it again")
    return Stream(root, folder, info, shape, files)


def _fetch(root: str, folder: Path, name: str) -> Path:
    from litdata.streaming.downloader import get_downloader

    path, part = folder / name, folder / f"{name}.part"
    part.unlink(missing_ok=True)
    get_downloader(root, str(folder), []).download_file(f"{root.rstrip('/')}/{name}", str(part))
    if not part.exists():
        raise FileNotFoundError(f"{name} is not there")
    return part.replace(path)  # whole, for another process that is reading it


def _fetch_known(root: str, cache_dir: Path) -> Path:
    """Fetches everything but the chunks into a folder of the cache."""
    folder = cache_dir / f"stream-{hashlib.sha256(root.encode()).hexdigest()[:12]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            before = folder.joinpath("about.json").read_bytes() if (folder / "complete").exists() else b""
            if _fetch(root, folder, "about.json").read_bytes() != before:
                for path in (folder / "complete", *folder.glob("*.bin")):  # of what was there before
                    path.unlink(missing_ok=True)
                splits = json.loads(_fetch(root, folder, "names.json").read_text(encoding="utf-8"))
                for name in ("index.json", "mean.npy", *(f"{split}.npz" for split in splits)):
                    _fetch(root, folder, name)
                (folder / "complete").touch()
    except Exception as error:  # of every store's own kind
        reason = escape_control_chars(" ".join(str(error).split())[:200])
        raise ArgumentError(f"root={escape_control_chars(root)}: cannot be read: {reason}") from error
    return folder


def _fetch_chunk(root: str, folder: Path, name: str, size: int) -> None:
    """Fetches the chunk into `folder`, in one process. Deletes those not used for longest when the disk fills."""
    path = folder / name
    with FileLock(folder / f"{name}.lock"):
        if not path.exists() or path.stat().st_size < size:
            with FileLock(folder / "lock"):
                chunks = sorted(folder.glob("*.bin"), key=lambda chunk: chunk.stat().st_mtime_ns)
                usage = shutil.disk_usage(folder)
                over = size + usage.total * KEEP_FREE - usage.free
                for chunk in chunks[:-KEEP_CHUNKS]:  # who still reads one has it mapped
                    if over <= 0:
                        break
                    over -= chunk.stat().st_size
                    chunk.unlink()
            _fetch(root, folder, name)
        os.utime(path)


def _encoded(image: NDArray[np.uint8], quality: int) -> bytes:
    file = BytesIO()
    pixels = image if image.shape[2] == 3 else image[..., 0]
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _decoded(image: bytes | memoryview) -> NDArray[np.uint8]:
    with Image.open(BytesIO(image), formats=["JPEG"]) as opened:
        array = np.array(opened)
    return array if array.ndim == 3 else array[..., None]
