"""The images that an export is proven on: drawn pedestrians, and some of the run's own.

Legend: N images, H W pixels.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from reid_accel.config.parse import recipe_config
from reid_accel.config.schema import Config
from reid_accel.data.cache_dir import cache_folder
from reid_accel.data.images import ImageSize, read_image, to_pixels
from reid_accel.data.sets import SYNTHETIC, list_dataset
from reid_accel.errors import InputError
from reid_accel.files import shown
from reid_accel.synthetic.market import Shot, SyntheticMarket, synthetic_cameras, take_shot

DRAWN = 32
FROM_RUN = 16
CAMERAS = 4
CONFIG_FILE = "config.yaml"  # of a run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pictures:
    """Images at the network's size, uint8, with names for errors."""

    pixels_NHW3: npt.NDArray[np.uint8]
    names: tuple[str, ...]


def proof_pictures(size: ImageSize, files: Sequence[Path] = ()) -> Pictures:
    """32 drawn pedestrians, the same everywhere, and up to 16 of the files, at the network's size."""
    named = [(f"drawn pedestrian {number}", image) for number, image in enumerate(drawn_pedestrians())]
    named += _some_of(files)
    pixels = [to_pixels(image, size).transpose(1, 2, 0) for _, image in named]
    return Pictures(np.stack(pixels), tuple(name for name, _ in named))


def drawn_pedestrians() -> list[Image.Image]:
    """32 people under 4 cameras, RGB, 64 x 128 pixels."""
    settings = SyntheticMarket(train_identities=1, test_identities=1, num_cameras=CAMERAS)
    cameras = synthetic_cameras(settings)
    shots = [Shot("gallery", "person", pid, pid, 1 + pid % CAMERAS, 0) for pid in range(DRAWN)]
    files = [take_shot(settings, cameras, shot) for shot in shots]
    return [Image.open(BytesIO(file), formats=("JPEG",)).convert("RGB") for file in files]


def images_of_the_run(model_folder: Path) -> list[Path]:
    """The query images of the run that a model folder belongs to; none if its data set isn't there, or is drawn."""
    config_file = model_folder.resolve().parent / CONFIG_FILE
    if not config_file.is_file():
        return []
    try:
        data = recipe_config(Config, str(config_file)).data
        if data.name in SYNTHETIC:
            return []
        return [image.path for image in list_dataset(data, cache_dir=cache_folder(data.cache_dir)).splits["query"]]
    except (InputError, OSError) as error:
        logger.info(f"no images of the run: {error}")
        return []


def _some_of(paths: Sequence[Path]) -> list[tuple[str, Image.Image]]:
    """Images at equal distances in a listing; unreadable ones are left out."""
    chosen = paths[:: max(1, -(-len(paths) // FROM_RUN))]
    return [(shown(path), image) for path in chosen for image in _readable(path)]


def _readable(path: Path) -> list[Image.Image]:
    try:
        return [read_image(path)]
    except InputError as error:
        logger.warning(f"not used for the proof: {error}")
        return []
