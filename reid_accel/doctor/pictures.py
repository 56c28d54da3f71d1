"""Numbers about each picture of a data set, in one parallel pass over the files.

Legend: N images of a split.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from reid_accel.data.dataset import ImageDataset
from reid_accel.data.images import read_image
from reid_accel.doctor.perceptual import perceptual_hash
from reid_accel.doctor.progress import Done
from reid_accel.errors import InputError
from reid_accel.files import is_utf8, shown
from reid_accel.hardware import num_cores

COMPARED_SIZE = (32, 64)
"""Width and height at which pictures of any size are compared."""
DIGEST_BYTES = 16
ROWS_PER_TASK = 64

_MEASURED = np.dtype(
    [
        ("width", np.int32),
        ("height", np.int32),
        ("color", np.float32, (3,)),
        ("contrast", np.float32),
        ("sharpness", np.float32),
        ("colorfulness", np.float32),
        ("digest", f"V{DIGEST_BYTES}"),
        ("hash", np.uint64),
    ]
)


@dataclass(frozen=True)
class Pictures:
    """What was measured of N pictures; all zeros where one can't be used.

    color: mean of red, green and blue, 0 to 255. contrast: standard deviation of gray. sharpness: standard deviation of
    the Laplacian, in units of the contrast; both at COMPARED_SIZE. colorfulness: 99th percentile over the pixels of the
    difference between the largest and the smallest of red, green, blue. digest: of the decoded pixels. hash: a
    perceptual one. unusable: why, by row.
    """

    measured_N: npt.NDArray[np.void]
    unusable: dict[int, str]

    def __getitem__(self, name: str) -> npt.NDArray[np.float64]:
        """One number of each picture."""
        return self.measured_N[name]

    @property
    def usable_N(self) -> npt.NDArray[np.bool_]:
        usable = np.ones(len(self.measured_N), bool)
        usable[list(self.unusable)] = False
        return usable


def measure(images: ImageDataset, progress: Done) -> Pictures:
    """Decode and measure the pictures of a split, a few at a time. progress: called with the number just done."""
    measured_N = np.zeros(len(images), _MEASURED)
    unusable: dict[int, str] = {}

    def measure_row(row: int) -> None:
        try:
            measured_N[row] = _measured(images.path_N[row])
        except InputError as error:
            unusable[row] = str(error)

    def measure_rows(rows: range) -> int:
        for row in rows:
            measure_row(row)
        return len(rows)

    starts = range(0, len(images), ROWS_PER_TASK)
    tasks = [range(start, min(start + ROWS_PER_TASK, len(images))) for start in starts]
    for done in in_threads(measure_rows, tasks):
        progress(done)
    return Pictures(measured_N, dict(sorted(unusable.items())))


def in_threads(function: Callable[[range], int], tasks: Sequence[range]) -> Iterator[int]:
    """The results of a function, in order; Ctrl-C cancels the tasks that haven't started."""
    pool = ThreadPoolExecutor(num_cores())  # Pillow decodes outside the GIL
    try:
        yield from pool.map(function, tasks)
    finally:
        pool.shutdown(cancel_futures=True)


def _measured(path: Path) -> tuple[object, ...]:
    if not is_utf8(path.name):
        raise InputError(f"cannot use the image {shown(path)}: its name is not UTF-8")
    image = read_image(path)
    if image.getcolors(1) is not None:
        raise InputError(f"cannot use the image {shown(path)}: all its pixels have the same color")
    small = image.resize(COMPARED_SIZE, Image.Resampling.BILINEAR)
    gray_HW = np.asarray(small.convert("L"), np.float32)
    contrast = float(gray_HW.std())
    return (
        image.width,
        image.height,
        np.asarray(small).reshape(-1, 3).mean(0),
        contrast,
        float(_laplacian(gray_HW).std()) / max(contrast, 1.0),
        _colorfulness(small),
        np.void(pixel_digest(image)),
        perceptual_hash(image),
    )


def _colorfulness(image: Image.Image) -> int:
    red, green, blue = image.split()
    largest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    smallest = ImageChops.darker(ImageChops.darker(red, green), blue)
    counts = np.cumsum(ImageChops.difference(largest, smallest).histogram())
    return int(np.searchsorted(counts, 0.99 * counts[-1]))


def pixel_digest(image: Image.Image) -> bytes:
    """A hash of size and pixels."""
    digest = hashlib.blake2b(f"{image.width} {image.height}".encode(), digest_size=DIGEST_BYTES)
    digest.update(image.tobytes())
    return digest.digest()


def _laplacian(gray_HW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    middle = gray_HW[1:-1, 1:-1]
    return 4 * middle - gray_HW[:-2, 1:-1] - gray_HW[2:, 1:-1] - gray_HW[1:-1, :-2] - gray_HW[1:-1, 2:]
