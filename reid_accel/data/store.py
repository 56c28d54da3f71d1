"""Decoded crops on disk: every image of a split is decoded and resized once, then read from a memory map.

A store is a folder with `crops.npy` (uint8, N x 3 x H x W) and `store.json` (what it was made from, which
images could not be read). It is built under a temporary name and renamed when whole: a killed build leaves
nothing that would be taken for a store, and of two processes that build at once one wins and both use it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_accel.data.images import read_image, to_pixels
from reid_accel.errors import InputError
from reid_accel.files import write_json

FORMAT = 1
CROPS_FILE = "crops.npy"
INDEX_FILE = "store.json"


@dataclass(frozen=True)
class CropStore:
    """Decoded crops, N x 3 x H x W, and the reason for each row that could not be decoded."""

    crops_N3HW: npt.NDArray[np.uint8]
    unreadable: dict[int, str]

    def gather(self, rows_B: npt.NDArray[np.int64]) -> Tensor:
        """The crops of some rows, uint8, B x 3 x H x W, in the rows' order."""
        return torch.from_numpy(self.crops_N3HW[rows_B])


def open_store(
    paths: Sequence[Path],
    *,
    height: int,
    width: int,
    interpolation: str,
    fingerprint: str,
    cache_dir: Path,
    on_bad_image: str,
    progress: Callable[[int, int], None] | None = None,
) -> CropStore:
    """The store of these images at this size, built if the cache doesn't have it.

    fingerprint: of the data set and split; a changed folder is a new store. on_bad_image: "error" raises
    InputError at the first image that can't be read, "skip" lists it in `unreadable`. progress is called with
    (images done, images in all) while building.
    """
    key = hashlib.sha256(
        json.dumps([FORMAT, fingerprint, height, width, interpolation, len(paths)]).encode()
    ).hexdigest()[:16]
    folder = cache_dir / "crops" / key
    store = _read(folder, (len(paths), 3, height, width))
    if store is None:
        try:
            _build(folder, paths, height, width, interpolation, progress)
        except OSError as error:
            raise InputError(
                f"the decoded images cannot be kept in {folder.parent}: {error}. Free some space there "
                f"({_mebibytes(len(paths), height, width)} MiB are needed) or set --data.cache-dir to another folder"
            ) from error
        store = _read(folder, (len(paths), 3, height, width))
        assert store is not None, f"{folder} was just built"
    if store.unreadable and on_bad_image == "error":
        row, reason = min(store.unreadable.items())
        raise InputError(
            f"{reason} ({len(store.unreadable)} of {len(paths)} images like this, the first is row {row}); "
            "replace it, or train without it: --data.on-bad-image skip"
        )
    return store


def _mebibytes(num_images: int, height: int, width: int) -> int:
    return num_images * 3 * height * width // 2**20 + 1


def _read(folder: Path, shape: tuple[int, ...]) -> CropStore | None:
    """The store in `folder`, or None when there is none or it isn't whole."""
    try:
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        crops = np.load(folder / CROPS_FILE, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    if index.get("format") != FORMAT or crops.shape != shape or crops.dtype != np.uint8:
        return None
    return CropStore(crops, {int(row): reason for row, reason in index["unreadable"].items()})


def _build(
    folder: Path,
    paths: Sequence[Path],
    height: int,
    width: int,
    interpolation: str,
    progress: Callable[[int, int], None] | None,
) -> None:
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    temporary.mkdir(parents=True)
    try:
        unreadable = _decode_all(temporary / CROPS_FILE, paths, height, width, interpolation, progress)
        write_json(temporary / INDEX_FILE, {"format": FORMAT, "unreadable": unreadable})
        if _read(folder, (len(paths), 3, height, width)) is None:
            shutil.rmtree(folder, ignore_errors=True)
            try:
                temporary.rename(folder)
            except OSError:  # another process was faster: its store is as good
                if _read(folder, (len(paths), 3, height, width)) is None:
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _decode_all(
    file: Path,
    paths: Sequence[Path],
    height: int,
    width: int,
    interpolation: str,
    progress: Callable[[int, int], None] | None,
) -> dict[int, str]:
    crops = np.lib.format.open_memmap(file, "w+", np.uint8, (len(paths), 3, height, width))
    unreadable: dict[int, str] = {}

    def decode(row: int) -> None:
        try:
            crops[row] = to_pixels(read_image(paths[row]), height, width, interpolation)
        except InputError as error:
            unreadable[row] = str(error)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # Pillow decodes outside the GIL
        for done, _ in enumerate(pool.map(decode, range(len(paths)), chunksize=64), start=1):
            if progress is not None and (done % 512 == 0 or done == len(paths)):
                progress(done, len(paths))
    crops.flush()
    return dict(sorted(unreadable.items()))
