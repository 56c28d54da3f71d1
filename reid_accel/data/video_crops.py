"""The crops of a tracker: one folder per tracklet, `ID/frame.jpg`."""

import logging
from pathlib import Path

from reid_accel.data.left_out import left_out_warning
from reid_accel.data.listing import UNKNOWN_CAMERA, UNLABELED_PID, ImageFile, images_below
from reid_accel.errors import InputError, shortened
from reid_accel.files import is_utf8, shown

logger = logging.getLogger(__name__)


def list_video_crops(place: Path) -> tuple[list[str], tuple[ImageFile, ...]]:
    """The tracklets' IDs, which are the paths of their folders, and their images by tracklet and name.

    An image's tracklet is the position of its ID. Hidden files and folders are ignored. Raises InputError if there are
    no images, or some lie outside of such a folder.
    """
    if not place.is_dir():
        raise InputError(f"there is no folder {place}: --video-crops names a folder of one folder per tracklet")
    paths = images_below(place)
    loose = sorted(path.name for path in paths if path.parent == place)
    if loose:
        raise InputError(
            f"{place} has {len(loose):,} images outside of a tracklet's folder ({shown(loose[0])}, ...): put each "
            "tracklet's images into a folder named by its ID (ID/frame.jpg), or predict for images with --test"
        )
    folders = {path: path.parent.relative_to(place).as_posix() for path in paths}
    ids = sorted(set(folders.values()))
    _check_ids(ids, place)
    number = {one: position for position, one in enumerate(ids)}
    warning = left_out_warning(place, paths)
    if warning is not None:
        logger.warning(warning)
    images = [
        ImageFile(path, f"{folder}/{path.name}", UNLABELED_PID, UNKNOWN_CAMERA, tracklet=number[folder])
        for path, folder in folders.items()
    ]
    return ids, tuple(sorted(images, key=lambda image: (image.tracklet, image.name)))


def _check_ids(ids: list[str], place: Path) -> None:
    for one in ids:
        if not is_utf8(one) or not one.isprintable():
            raise InputError(
                f"{place}: the folder name {shortened(shown(one))} is not UTF-8 or contains an unprintable character, "
                "so that it can't be written to tracklets.csv: rename the folder"
            )
