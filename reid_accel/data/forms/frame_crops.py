"""Crops of people, cut out of video frames once into image files of the cache."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from reid_accel.data.images import read_image
from reid_accel.data.stored_files import stored_files
from reid_accel.errors import InputError
from reid_accel.files import shown
from reid_accel.hardware import num_cores

ENDING = ".png"
PROGRESS_EVERY = 512

OUTSIDE = "outside of the frame"
LOW = "lower than the smallest height inside of the frame"
HIDDEN = "mostly outside of the frame"

logger = logging.getLogger(__name__)


class Region(NamedTuple):
    """A box in a frame, in pixels from 0, and the name of its crop without an ending: a path with `/`."""

    name: str
    left: float
    top: float
    width: float
    height: float
    visibility: float
    """Share of the person that is seen, -1 if unknown."""


@dataclass(frozen=True)
class Wanted:
    """The smallest crops that are cut. Boxes of unknown visibility are as visible as their share in the frame."""

    min_height_px: int
    min_visibility: float


@dataclass(frozen=True)
class CutCrops:
    """The files of the crops by the names of their regions; why others were left out; and why frames are unreadable."""

    paths: Mapping[str, Path]
    left_out: Mapping[str, int]
    unreadable: Mapping[str, str]


def cut_crops(regions: Mapping[Path, Sequence[Region]], wanted: Wanted, folder: Path) -> CutCrops:
    """The crops of each frame's regions, cut into `folder` unless they are there.

    `folder` must be named by all that the crops depend on. Raises InputError if they cannot be written.
    """
    index = stored_files(folder, partial(_cut_all, regions, wanted), "the crops")
    paths = {name.removesuffix(ENDING): folder / name for name in index["bytes"]}
    return CutCrops(paths, index["left_out"], index["unreadable"])


def _cut_all(regions: Mapping[Path, Sequence[Region]], wanted: Wanted, folder: Path) -> dict[str, Any]:
    """Write the crops; returns the content of the index."""
    for parent in sorted({Path(region.name).parent for boxes in regions.values() for region in boxes}):
        (folder / parent).mkdir(parents=True, exist_ok=True)
    sizes: dict[str, int] = {}
    left_out: Counter[str] = Counter()
    unreadable: dict[str, str] = {}
    frames = sorted(regions)
    with ThreadPoolExecutor(num_cores()) as pool:  # Pillow decodes outside the GIL
        cut = pool.map(partial(_cut_frame, wanted, folder), frames, [regions[frame] for frame in frames])
        for done, (written, reasons, problem) in enumerate(cut, 1):
            sizes |= written
            left_out.update(reasons)
            if problem is not None:
                unreadable[shown(frames[done - 1])] = problem
            if done % PROGRESS_EVERY == 0 or done == len(frames):
                logger.info(f"cut {len(sizes):,} crops out of {done:,} of {len(frames):,} frames")
    return {"bytes": sizes, "left_out": dict(left_out), "unreadable": unreadable}


def _cut_frame(
    wanted: Wanted, folder: Path, frame: Path, regions: Sequence[Region]
) -> tuple[dict[str, int], list[str], str | None]:
    """Write the crops of a frame: (the size of each file, why others were left out, why the frame is unreadable)."""
    try:
        image = read_image(frame)
    except InputError as error:
        return {}, [], str(error)
    sizes, reasons = {}, []
    for region in regions:
        crop = inside(region, *image.size)
        reason = _why_left_out(region, crop, wanted)
        if reason is None:
            name = f"{region.name}{ENDING}"
            sizes[name] = _write(image.crop(crop), folder / name)
        else:
            reasons.append(reason)
    return sizes, reasons, None


def inside(region: Region, width: int, height: int) -> tuple[int, int, int, int]:
    """The whole pixels of a box that are in a frame: left, top, right, bottom; without area if there are none."""
    left, right = (min(max(round(x), 0), width) for x in (region.left, region.left + region.width))
    top, bottom = (min(max(round(y), 0), height) for y in (region.top, region.top + region.height))
    return left, top, right, bottom


def _why_left_out(region: Region, crop: tuple[int, int, int, int], wanted: Wanted) -> str | None:
    width, height = crop[2] - crop[0], crop[3] - crop[1]
    if width * height == 0:
        return OUTSIDE
    if height < wanted.min_height_px:
        return LOW
    share = width * height / max(region.width * region.height, 1)
    if region.visibility < 0 and share < wanted.min_visibility:
        return HIDDEN
    return None


def _write(crop: Image.Image, path: Path) -> int:
    """Write a crop without loss; returns the file's size."""
    crop.save(path, format="PNG", compress_level=1)
    return path.stat().st_size
