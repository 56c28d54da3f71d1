"""Decoded crops on disk: every image of a split is decoded once, then read from a memory map.

A store is a folder with `crops.npy` (uint8, N x 3 x H x W) and `store.json` (what could not be read, checksums).
Where all images have one size that is not larger than the network's input, they are kept at it; else at the
network's size. A store is built under a temporary name and renamed when whole: a killed build leaves nothing that
would be taken for a store, and of two processes that build at once one wins and both use it.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from reid_accel.data.cache_dir import writable_cache
from reid_accel.data.images import ImageSize, as_array, may_stay_small, read_image, to_pixels
from reid_accel.errors import InputError
from reid_accel.files import write_json

FORMAT = 2
CROPS_FILE = "crops.npy"
INDEX_FILE = "store.json"
CHECKED_BYTES = 64 * 2**20  # one checksum for each piece of this size
ABANDONED_SECONDS = 24 * 3600.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class CropCache:
    """Decoded crops, N x 3 x H x W, and the reason for each row that could not be decoded."""

    crops_N3HW: npt.NDArray[np.uint8]
    unreadable: dict[int, str]

    def gather(self, rows_B: npt.NDArray[np.int64]) -> Tensor:
        """The crops of some rows, uint8, B x 3 x H x W, in the rows' order."""
        return torch.from_numpy(self.crops_N3HW[rows_B])


class _UnusableError(Exception):
    """Why a store that is there is not used."""


def open_crop_cache(
    paths: Sequence[Path],
    size: ImageSize,
    *,
    fingerprint: str,
    cache_dir: Path,
    on_bad_image: str,
    verify: bool = True,
    progress: Callable[[int, int], None] | None = None,
    say: Say = lambda sentence: None,
) -> CropCache:
    """The store of these images for this input size, built if the cache doesn't have it or has it damaged.

    fingerprint: of the data set and split; a changed folder is a new store. on_bad_image: "error" raises
    InputError at the first image that can't be read, "skip" lists it in `unreadable`. verify: compare checksums
    (one process of a machine is enough). progress is called with (images done, images in all) while building, say
    with a sentence when a damaged store is replaced or the cache folder can't be written.
    """
    settings = [fingerprint, size.height_px, size.width_px, size.interpolation, size.fit, len(paths)]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    store = _read_if_good(cache_dir / "crops" / key, len(paths), verify, say)
    if store is None:
        writable = writable_cache(cache_dir, say)
        folder = writable / "crops" / key
        if writable != cache_dir:
            store = _read_if_good(folder, len(paths), verify, say)
        store = store or _build(folder, paths, size, progress)
    if store.unreadable and on_bad_image == "error":
        row, reason = min(store.unreadable.items())
        raise InputError(
            f"{reason} ({len(store.unreadable)} of {len(paths)} images like this, the first is row {row}); "
            "replace it, or train without it: --data.on-bad-image skip"
        )
    return store


def _read_if_good(folder: Path, number: int, verify: bool, say: Say) -> CropCache | None:
    if not folder.exists():
        return None
    try:
        return _read(folder, number, verify)
    except _UnusableError as error:
        say(f"the decoded images in {folder} are not used, {error}; the images are decoded again")
        return None


def _read(folder: Path, number: int, verify: bool) -> CropCache:
    try:
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        crops = np.load(folder / CROPS_FILE, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _UnusableError(f"they are not whole ({error})") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise _UnusableError("they are of another version")
    if crops.dtype != np.uint8 or list(crops.shape) != index.get("shape") or len(crops) != number:
        raise _UnusableError("their number or size is wrong")
    if verify and _checksums(crops) != index.get("checksums"):
        raise _UnusableError("a checksum is wrong")
    return CropCache(crops, {int(row): reason for row, reason in index["unreadable"].items()})


def _checksums(crops: npt.NDArray[np.uint8]) -> list[int]:
    flat = crops.reshape(-1)
    pieces = [flat[start : start + CHECKED_BYTES] for start in range(0, len(flat), CHECKED_BYTES)]
    with ThreadPoolExecutor(_cores()) as pool:  # zlib works outside the GIL
        return list(pool.map(zlib.crc32, pieces))


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _build(
    folder: Path, paths: Sequence[Path], size: ImageSize, progress: Callable[[int, int], None] | None
) -> CropCache:
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    _remove_abandoned(folder)
    try:
        temporary.mkdir(parents=True)
        index = _decode_all(temporary / CROPS_FILE, paths, size, progress)
        write_json(temporary / INDEX_FILE, index)
        store = _read(temporary, len(paths), verify=False)  # mapped: whoever replaces the folder, these pixels stay
        return _put_in_place(temporary, folder, len(paths)) or store
    except OSError as error:
        raise InputError(
            f"the decoded images cannot be kept in {folder.parent}: {error}. Free some space there or set "
            "--data.cache-dir to another folder; nothing half-written was left"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(temporary: Path, folder: Path, number: int) -> CropCache | None:
    """Give a whole store its name, or return the whole one that another process has put there meanwhile.

    A damaged one is moved aside in one stroke: deleted where it stands, it could be another process's new one that
    is deleted.
    """
    while True:
        try:
            temporary.rename(folder)  # fails where a folder stands that isn't empty
            return None
        except OSError:
            if not folder.exists():
                raise
        try:
            return _read(folder, number, verify=True)
        except _UnusableError:
            aside = temporary.with_suffix(".bad.part")
            with contextlib.suppress(FileNotFoundError):
                folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """What killed builds of this store left a day ago or earlier: it may be large."""
    for leftover in folder.parent.glob(f".{folder.name}.*.part"):
        if time.time() - leftover.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)


def _decode_all(
    file: Path, paths: Sequence[Path], size: ImageSize, progress: Callable[[int, int], None] | None
) -> dict[str, Any]:
    """Write the crops' file; returns what the index says of it."""
    with ThreadPoolExecutor(_cores()) as pool:  # Pillow decodes outside the GIL
        own_size = _common_size(pool, paths, size)
        width, height = own_size or (size.width_px, size.height_px)
        crops = _allocate(file, (len(paths), 3, height, width))
        unreadable: dict[int, str] = {}

        def decode(row: int) -> None:
            try:
                image = read_image(paths[row])
                crops[row] = as_array(image) if own_size else to_pixels(image, size)
            except InputError as error:
                unreadable[row] = str(error)

        for done, _ in enumerate(pool.map(decode, range(len(paths)), chunksize=64), start=1):
            if progress is not None and (done % 512 == 0 or done == len(paths)):
                progress(done, len(paths))
    crops.flush()
    return {
        "format": FORMAT,
        "shape": list(crops.shape),
        "checksums": _checksums(crops),
        "unreadable": dict(sorted(unreadable.items())),
    }


def _common_size(pool: ThreadPoolExecutor, paths: Sequence[Path], size: ImageSize) -> tuple[int, int] | None:
    """(width, height) of all images if it is one that may be kept; headers are read until it is known."""
    sizes = (measured for measured in _sizes(pool, paths) if measured is not None)
    first = next(sizes, None)
    if first is None or not may_stay_small(*first, size) or any(other != first for other in sizes):
        return None
    return first


def _sizes(pool: ThreadPoolExecutor, paths: Sequence[Path]) -> Iterator[tuple[int, int] | None]:
    for start in range(0, len(paths), 4096):  # not all at once: the first differing one ends it
        yield from pool.map(_size_of, paths[start : start + 4096], chunksize=64)


def _size_of(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _allocate(file: Path, shape: tuple[int, ...]) -> "np.memmap[Any, np.dtype[np.uint8]]":
    """A new memory-mapped array whose space on the disk is certain: a full disk is an OSError here, not a
    bus error at some later row."""
    crops = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    with open(file, "rb+") as opened:
        os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    return crops
