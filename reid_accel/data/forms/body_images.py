"""P-DukeMTMC-reID (Zhuo et al., ICME 2018): folders of occluded and of whole bodies, with a folder per person.

As in public code, queries are occluded test images, the gallery is whole ones, and the two kinds count as two cameras.
"""

from collections.abc import Sequence
from pathlib import Path

from reid_accel.attributes.annotations import whole_number
from reid_accel.data.listing import ImageFile, in_order_of_people, list_images
from reid_accel.errors import InputError

OCCLUDED, WHOLE = "occluded_body_images", "whole_body_images"
CAMERAS = {OCCLUDED: 1, WHOLE: 2}


def has_body_images(root: Path) -> bool:
    """Whether a folder has the layout of P-DukeMTMC-reID."""
    return (root / "test" / OCCLUDED).is_dir()


def body_images(root: Path) -> dict[str, tuple[ImageFile, ...]]:
    """The images of each split. Raises InputError if a folder is missing or a person's folder is no number."""
    return {
        "train": _images([root / "train" / OCCLUDED, root / "train" / WHOLE]),
        "query": _images([root / "test" / OCCLUDED]),
        "gallery": _images([root / "test" / WHOLE]),
    }


def _images(folders: Sequence[Path]) -> tuple[ImageFile, ...]:
    """Named by file if all names differ, as kind/person/file else."""
    found: list[ImageFile] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}: expected {OCCLUDED} and {WHOLE} in train and test")
        for person in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
            pid = _person(person)
            found += [ImageFile(path, path.name, pid, CAMERAS[folder.name]) for path in list_images(person)]
    if not found:
        raise InputError(f"{folders[0]} has no folders of people")
    if len({image.name for image in found}) < len(found):
        found = [image._replace(name=image.path.relative_to(folders[0].parent).as_posix()) for image in found]
    return in_order_of_people(found)


def _person(folder: Path) -> int:
    try:
        return whole_number(folder.name)
    except ValueError as error:
        raise InputError(f"{folder} must be named by the number of a person: {error}") from error
