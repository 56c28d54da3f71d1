"""Crop cache: every image of a split is decoded once to disk, then read from a memory map.

A cache is a folder with `crops.npy` (uint8, N x 3 x H x W) and `index.json` (unreadable images, checksums). Images keep
their size if it is the same for all and not larger than the network's input; else they are resized to the network's.
A killed build leaves no incomplete cache. If two processes build at the same time, both use the first complete cache.
"""

import errno
import hashlib
import io
import json
import logging
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_accel.data.cache_dir import writable_cache
from reid_accel.data.images import (
    READER,
    ImageSize,
    as_array,
    image_size,
    may_stay_small,
    read_crop,
    resized,
    to_pixels,
)
from reid_accel.errors import InputError, shortened
from reid_accel.files import (
    has_right_checksum,
    open_regular,
    read_text,
    replacing_folder,
    shown,
    with_checksum,
    write_json,
)
from reid_accel.hardware import num_cores

FORMAT = 3
CROPS_FILE = "crops.npy"
INDEX_FILE = "index.json"
CHECKED_BYTES = 64 * 2**20  # per checksum
PROGRESS_EVERY = 4096
ZEROS_WRITTEN = 2**20  # at a time

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CropCache:
    """Decoded crops, N x 3 x H x W, and the reason for each row that could not be decoded."""

    crops_N3HW: npt.NDArray[np.uint8]
    unreadable: dict[int, str]

    def gather(self, rows_B: npt.NDArray[np.int64]) -> Tensor:
        """The crops of the given rows, in order: uint8, B x 3 x H x W."""
        return torch.from_numpy(self.crops_N3HW[rows_B])


@dataclass(frozen=True)
class Decoding:
    """How images are decoded and where they are cached.

    on_bad_image: "error" raises InputError for unreadable images, "skip" lists them in `unreadable`. verify: compare
    checksums (one process per machine is enough).
    """

    size: ImageSize
    cache_dir: Path
    on_bad_image: str = "error"
    verify: bool = True


class _UnusableError(Exception):
    """An existing cache can't be used."""


def open_crop_cache(paths: Sequence[Path], decoding: Decoding, fingerprint: str) -> CropCache:
    """The decoded images; they are decoded if the cache for this input size is missing or damaged.

    fingerprint: identifies the content of the data set and split; a changed folder gets a new cache.
    """
    size, cache_dir = decoding.size, decoding.cache_dir
    settings = [fingerprint, size.height_px, size.width_px, size.interpolation, size.fit, len(paths), READER]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    cache = _read_if_good(cache_dir / "crops" / key, len(paths), decoding)
    if cache is None:
        writable = writable_cache(cache_dir)
        folder = writable / "crops" / key
        if writable != cache_dir:
            cache = _read_if_good(folder, len(paths), decoding)
        cache = cache or _build(folder, paths, decoding)
    else:
        logger.debug(f"the decoded images of {shown(paths[0].parent.name)} are in {cache_dir / 'crops' / key}")
    if cache.unreadable and decoding.on_bad_image == "error":
        row, reason = min(cache.unreadable.items())
        raise InputError(
            f"{reason} ({len(cache.unreadable)} of {len(paths)} images are unreadable, the first is row {row}); "
            "replace it, or skip unreadable images: --data.on-bad-image skip (of predict: --on-bad-image skip)"
        )
    return cache


def _read_if_good(folder: Path, number: int, decoding: Decoding) -> CropCache | None:
    if not folder.exists():
        return None
    try:
        return _read(folder, number, decoding.verify)
    except _UnusableError as error:
        logger.warning(f"the crop cache {folder} is unusable ({error}): decoding the images again")
        return None


def _read(folder: Path, number: int, verify: bool) -> CropCache:
    """A complete cache. verify: compare the checksums of the crops; that of the index always is."""
    try:
        index = json.loads(read_text(folder / INDEX_FILE))
        if not isinstance(index, dict) or index.get("format") != FORMAT:
            raise _UnusableError("unsupported format")
        if not has_right_checksum(index):
            raise _UnusableError(f"{INDEX_FILE} is damaged")
    except (OSError, ValueError, RecursionError) as error:
        raise _UnusableError(f"incomplete: {shortened(error)}") from error
    if index["shape"][0] != number:
        raise _UnusableError("wrong number of images")
    try:
        crops = _mapped(folder / CROPS_FILE, tuple(index["shape"]))
    except OSError as error:
        raise _UnusableError(f"incomplete: {error}") from error
    if verify and _checksums(crops) != index["checksums"]:
        raise _UnusableError("wrong checksum")
    return CropCache(crops, {int(row): reason for row, reason in index["unreadable"].items()})


def _mapped(file: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """The crops of this shape; a header that NumPy would not write for it is refused, not interpreted."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with open_regular(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        if opened.read(header.tell()) != header.getvalue() or size != header.tell() + math.prod(shape):
            raise _UnusableError(f"{CROPS_FILE} is damaged")
        return np.memmap(opened, np.uint8, "r", offset=header.tell(), shape=shape)


def _checksums(crops: npt.NDArray[np.uint8]) -> list[int]:
    flat = crops.reshape(-1)
    pieces = [flat[start : start + CHECKED_BYTES] for start in range(0, len(flat), CHECKED_BYTES)]
    with ThreadPoolExecutor(num_cores()) as pool:  # zlib works outside the GIL
        return list(pool.map(zlib.crc32, pieces))


def _build(folder: Path, paths: Sequence[Path], decoding: Decoding) -> CropCache:
    """Decode the images into `folder`, unless another process has put a complete cache there in the meantime."""
    try:
        with replacing_folder(
            folder, keep_existing=lambda existing: _is_good(existing, len(paths)), sync=False
        ) as temporary:
            index = _decode_all(temporary / CROPS_FILE, paths, decoding)
            write_json(temporary / INDEX_FILE, with_checksum(index))
            # Windows doesn't rename a folder with a mapped file in it
            own = None if os.name == "nt" else _read(temporary, len(paths), verify=False)
    except OSError as error:
        raise InputError(
            f"the crop cache cannot be written to {folder.parent}: {error}. Free some space there or set "
            "--data.cache-dir to another folder; incomplete files were removed"
        ) from error
    try:
        return _read(folder, len(paths), verify=False)
    except _UnusableError as error:  # another process is replacing it; our own is mapped and stays readable
        if own is None:
            raise InputError(f"another process is replacing the crop cache {folder}: start again") from error
        return own


def _is_good(folder: Path, number: int) -> bool:
    try:
        _read(folder, number, verify=True)
    except _UnusableError:
        return False
    return True


def _decode_all(file: Path, paths: Sequence[Path], decoding: Decoding) -> dict[str, Any]:
    """Write the crops; returns the content of the index."""
    size = decoding.size
    with ThreadPoolExecutor(num_cores()) as pool:  # Pillow decodes outside the GIL
        own_size = _common_size(pool, paths, size)
        width, height = own_size or (size.width_px, size.height_px)
        crops = _allocate(file, (len(paths), 3, height, width))
        unreadable: dict[int, str] = {}

        def decode(row: int) -> None:
            try:
                image = read_crop(paths[row])
                if own_size is None:
                    crops[row] = to_pixels(image, size)
                else:  # a PNG may be turned by what follows its pixels
                    crops[row] = as_array(resized(image, own_size, size.interpolation))
            except InputError as error:
                unreadable[row] = str(error)

        for start in range(0, len(paths), PROGRESS_EVERY):  # in blocks, since the pool's queue takes memory
            done = min(start + PROGRESS_EVERY, len(paths))
            list(pool.map(decode, range(start, done)))
            logger.info(f"decoded {done:,} of {len(paths):,} images of {shown(paths[0].parent.name)}")
    crops.flush()
    return {
        "format": FORMAT,
        "shape": list(crops.shape),
        "checksums": _checksums(crops),
        "unreadable": dict(sorted(unreadable.items())),
    }


def _common_size(pool: ThreadPoolExecutor, paths: Sequence[Path], size: ImageSize) -> tuple[int, int] | None:
    """(width, height) if all images have the same size and may keep it; reads headers until the first mismatch."""
    sizes = (measured for measured in _sizes(pool, paths) if measured is not None)
    first = next(sizes, None)
    if first is None or not may_stay_small(*first, size) or any(other != first for other in sizes):
        return None
    return first


def _sizes(pool: ThreadPoolExecutor, paths: Sequence[Path]) -> Iterator[tuple[int, int] | None]:
    for start in range(0, len(paths), 4096):  # in chunks, to stop early at the first mismatch
        yield from pool.map(_size_of, paths[start : start + 4096])


def _size_of(path: Path) -> tuple[int, int] | None:
    try:
        return image_size(path)
    except InputError:
        return None


def _allocate(file: Path, shape: tuple[int, ...]) -> "np.memmap[Any, np.dtype[np.uint8]]":
    """A new memory-mapped array, preallocated: a full disk raises OSError now instead of a bus error later."""
    crops = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    with open(file, "rb+") as opened:
        _reserve(opened, file.stat().st_size)
    return crops


def _reserve(file: BinaryIO, size: int) -> None:
    """Reserve the disk space of a file of zeros, by writing them where the system can't reserve it otherwise."""
    try:
        if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
            os.posix_fallocate(file.fileno(), 0, size)
            return
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):  # not on every file system
            raise
    header = file.read(ZEROS_WRITTEN)
    file.seek(0)
    file.write(header)
    for start in range(len(header), size, ZEROS_WRITTEN):
        file.write(bytes(min(ZEROS_WRITTEN, size - start)))
