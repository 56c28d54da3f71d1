"""Listing a large set of images: reading names, checks, fingerprint, and decoding into the crop store.

The set is made: hard links to a few noisy crops of 64 x 128 pixels, in Market-1501's layout. Its names and states come
from memory; a disk or a file server takes longer for each.
"""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from reid_accel.config.data import DataConfig
from reid_accel.data.checks import check_listing
from reid_accel.data.crop_cache import Decoding, open_crop_cache
from reid_accel.data.dataset import ImageDataset
from reid_accel.data.left_out import left_out_warnings
from reid_accel.data.listing import fingerprint_of
from reid_accel.data.reading import check_dataset
from reid_accel.data.scan import forget_entries
from reid_accel.data.sets import list_dataset
from reid_accel.errors import InputError
from reid_accel.files import write_json
from reid_accel.reporting.console import open_console

SHARES = {"bounding_box_train": 0.5, "query": 0.1, "bounding_box_test": 0.4}
PEOPLE_PER_IMAGE, CAMERAS = 1 / 20, 6
LINKS_PER_FILE = 30_000  # file systems allow 32,000 or 65,000
WIDTH_PX, HEIGHT_PX = 64, 128

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreSize:
    """The crops' own size."""

    height_px: int = HEIGHT_PX
    width_px: int = WIDTH_PX
    interpolation: str = "bilinear"
    fit: str = "stretch"


@dataclass(frozen=True)
class Line:
    """What a part of the work took; bytes_per_row: of memory, at its peak."""

    title: str
    rows: int
    seconds: float
    rows_per_second: float
    bytes_per_row: float | None


def run(files: int, folder: Path | None, store_files: int, json_path: Path | None) -> list[Line]:
    """Measure and print. folder: where the set is made, and removed from at the end."""
    if files < 20 or not 0 <= store_files <= files:
        raise InputError(f"--files must be at least 20 and --store-files from 0 to that, got {files} and {store_files}")
    place = Path(tempfile.mkdtemp(prefix="reid_accel-listing-", dir=folder))
    try:
        make_set(place / "set", files)
        lines = measured(place / "set", place / "cache", store_files)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print_lines(lines, files)
    if json_path is not None:
        write_json(json_path, [asdict(line) for line in lines])
    return lines


def make_set(root: Path, files: int) -> None:
    """A set in Market-1501's layout whose images are links to few files; the folders look as if made a minute ago."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    for name, share in SHARES.items():
        (root / name).mkdir(parents=True)
        original: Path | None = None
        for number in range(round(files * share)):
            person, camera = 1 + int(number * PEOPLE_PER_IMAGE), 1 + number % CAMERAS
            path = root / name / f"{person:06d}_c{camera}s1_{number:08d}.jpg"
            if original is None or number % LINKS_PER_FILE == 0:
                original = path
                Image.fromarray(pixels).save(path)
            else:
                _link(original, path)
        a_minute_ago = time.time() - 60
        os.utime(root / name, (a_minute_ago, a_minute_ago))


def _link(original: Path, path: Path) -> None:
    try:
        os.link(original, path)
    except OSError:  # a file system without hard links
        shutil.copyfile(original, path)


def measured(root: Path, cache_dir: Path, store_files: int) -> list[Line]:
    """The parts of opening a set, in the order of a run."""
    config = DataConfig(name="market-layout", root=str(root))
    forget_entries(root)
    lines: list[Line] = []

    def timed(title: str, work: Callable[[], T], rows: int) -> T:
        before = _reset_peak()
        begun = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - begun
        peak = _memory("VmHWM")
        per_row = None if before is None or peak is None else max(0.0, (peak - before) / rows)
        lines.append(Line(title, rows, seconds, rows / seconds, per_row))
        return result

    files = sum(len(os.listdir(folder)) for folder in root.iterdir())
    timed("check of folders and names", lambda: check_dataset(config), files)
    listing = timed("listing, with the lines below", lambda: list_dataset(config, cache_dir=cache_dir), files)
    timed("  fingerprint", lambda: fingerprint_of(root, listing.splits), files)
    paths = {split: [image.path for image in images] for split, images in listing.splits.items()}
    timed("  search for what is left out", lambda: left_out_warnings(root, paths), files)
    timed("checks of labels", lambda: check_listing(listing), files)
    train = listing.splits["train"]
    timed("training set in memory", lambda: ImageDataset.of_files(train, (), None), len(train))
    stored = [image.path for image in train[:store_files]]
    if stored:
        decoding = Decoding(StoreSize(), cache_dir)
        open_store = lambda: open_crop_cache(stored, decoding, listing.fingerprint)  # noqa: E731
        timed("decoding into the crop store", open_store, len(stored))
        timed("opening the crop store, checksums", open_store, len(stored))
    return lines


def _reset_peak() -> int | None:
    """Forget the process's peak memory, where the system allows it; returns what is in use."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(kind: str) -> int | None:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == kind:
            return int(value.split()[0]) * 1024
    return None


def print_lines(lines: list[Line], files: int) -> None:
    """The lines as a table."""
    from rich import box
    from rich.table import Table

    title, caption = (
        f"{files:,} files, {os.cpu_count()} cores",
        "The crop store is a mapped file, whose pages count here.",
    )
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    for heading in ("files", "seconds", "files/s", "peak memory, bytes per file"):
        table.add_column(heading, justify="right")
    for line in lines:
        memory = "–" if line.bytes_per_row is None else f"{line.bytes_per_row:,.0f}"
        table.add_row(line.title, f"{line.rows:,}", f"{line.seconds:.2f}", f"{line.rows_per_second:,.0f}", memory)
    open_console(is_main_process=True).print(table)
