"""Own pictures in folders: one per person, with sub-folders for cameras, or cameras in the file names, or none."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from reid_accel.config.data import NO_CAMERAS
from reid_accel.data.forms.camera_pattern import cameras_by_pattern
from reid_accel.data.forms.naming import camera_numbers, names_given, natural_key, numbers_of
from reid_accel.data.listing import (
    UNKNOWN_CAMERA,
    UNKNOWN_TRACKLET,
    UNSPLIT,
    ImageFile,
    Listing,
    fingerprint_of,
    in_order_of_people,
    is_image_name,
    no_images,
)
from reid_accel.data.people_split import TEST
from reid_accel.data.scan import entries_of
from reid_accel.errors import InputError, listed

SPLIT_FOLDERS = ("train", "query", "gallery", TEST)
DEEPEST = 3
"""PERSON/CAMERA/TRACKLET."""


class Found(NamedTuple):
    """An image and the folders between its split's folder and itself: person, camera, tracklet."""

    path: Path
    folders: tuple[str, ...]

    @property
    def below(self) -> str:
        """The path below the split's folder."""
        return "/".join((*self.folders, self.path.name))


@dataclass(frozen=True)
class Folders:
    """`[train|query|gallery/]PERSON/[CAMERA/[TRACKLET/]]*.jpg`, with any names.

    camera_pattern: see the setting; `none` if sub-folders aren't cameras.
    """

    camera_pattern: str | None = None

    name: ClassVar[str] = "folders"

    def check(self, root: Path) -> None:
        """See `Layout`."""
        self._images(root)

    def read(self, root: Path) -> Listing:
        """See `Layout`."""
        splits, people = self._images(root)
        return Listing(splits, (), fingerprint_of(root, splits), people=people)

    def _images(self, root: Path) -> tuple[dict[str, tuple[ImageFile, ...]], dict[int, str]]:
        found = {split: _find(folder) for split, folder in split_folders(root).items()}
        every = [image for images in found.values() for image in images]
        pid_of = _people(every)
        camera_of, tracklet_of = self._cameras(root, every), _tracklets(every)
        splits = {
            split: in_order_of_people(
                ImageFile(
                    image.path,
                    name,
                    pid_of[image.folders[0]],
                    camera_of.get(image.below, UNKNOWN_CAMERA),
                    tracklet=tracklet_of.get(image.folders, UNKNOWN_TRACKLET),
                )
                for image, name in zip(images, _names(images), strict=True)
            )
            for split, images in found.items()
        }
        return splits, names_given(pid_of)

    def _cameras(self, root: Path, images: Sequence[Found]) -> dict[str, int]:
        """The camera of each path, without the unknown ones."""
        if self.camera_pattern == NO_CAMERAS:
            return {}
        if self.camera_pattern is None:
            name_of = {image.below: image.folders[1] for image in images if len(image.folders) > 1}
            remedy = f"--data.camera-pattern {NO_CAMERAS} if these folders are not cameras; else rename them"
        else:
            name_of = cameras_by_pattern(self.camera_pattern, [image.below for image in images])
            remedy = "let the group of --data.camera-pattern match something else"
        first = {name: f"{root.name}/.../{path}" for path, name in reversed(name_of.items())}
        number_of = camera_numbers(name_of.values(), first.__getitem__, remedy)
        return {path: number_of[name] for path, name in name_of.items()}


def split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split; the root itself if it has none. Raises InputError if some, but not all, are there."""
    if not root.is_dir():
        raise InputError(f"there is no folder {root}; set --data.root (or --data.also) to the folder of the data set")
    named = {path.name.casefold(): path for path in sorted(root.iterdir()) if path.is_dir()}
    there = {split: named[split] for split in SPLIT_FOLDERS if split in named}
    if "query" in there and "gallery" not in there and TEST in there:
        there["gallery"] = there.pop(TEST)
    if set(there) in ({"train", "query", "gallery"}, {"train", TEST}):
        return there
    if len(there) > 1 or (there and len(named) == 1):
        raise InputError(
            f"{root} has the folders {listed(there)}: a split has train, query and gallery, or train and test; a set "
            "without a split has one folder per person"
        )
    return {UNSPLIT: root}


def _find(folder: Path) -> list[Found]:
    """The images in the people's folders, without hidden ones. Raises InputError if there are none, or too deep."""
    found, too_deep = _below(folder, ())
    if too_deep:
        raise InputError(
            f"{too_deep[0]} is too deep: expected PERSON/image, PERSON/CAMERA/image or PERSON/CAMERA/TRACKLET/image in "
            f"{folder}"
        )
    if not found:
        stray = [path.name for path in sorted(folder.iterdir()) if is_image_name(path.name)]
        if stray:
            raise InputError(
                f"{folder} has {len(stray):,} images ({listed(stray, 3)}) but no folders of people with images: move "
                "the images of each person into a folder of their own, or name a layout with --data.name market-layout"
            )
        raise no_images(folder)
    return found


def _below(folder: Path, folders: tuple[str, ...]) -> tuple[list[Found], list[Path]]:
    """Images in folders of people, and folders with images that are too deep."""
    found: list[Found] = []
    too_deep: list[Path] = []
    entries = entries_of(folder)
    inner = set(entries.folders)
    for name in sorted((*entries.files, *inner)):
        if name not in inner:
            if folders and is_image_name(name):
                found.append(Found(folder / name, folders))
        elif name.startswith("."):
            continue
        elif len(folders) < DEEPEST:
            more, deeper = _below(folder / name, (*folders, name))
            found += more
            too_deep += deeper
        elif any(is_image_name(each) for each in entries_of(folder / name).files):
            too_deep.append(folder / name)
    return found, too_deep


def _people(images: Sequence[Found]) -> dict[str, int]:
    first = {image.folders[0]: image.path.parents[len(image.folders) - 1] for image in reversed(images)}
    return numbers_of((image.folders[0] for image in images), "person", lambda name: str(first[name]))


def _tracklets(images: Sequence[Found]) -> dict[tuple[str, ...], int]:
    """A number for each folder of a tracklet."""
    folders = dict.fromkeys(image.folders for image in images if len(image.folders) == DEEPEST)
    ordered = sorted(folders, key=lambda names: [natural_key(name) for name in names])
    return {names: number for number, names in enumerate(ordered, 1)}


def _names(images: Sequence[Found]) -> list[str]:
    """File names if they are unique, else paths."""
    names = [image.path.name for image in images]
    return names if len(set(names)) == len(names) else [image.below for image in images]
