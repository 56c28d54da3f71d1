"""A listed data set laid out anew in other forms, by links to its images."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from reid_accel.data.dataset import ImageDataset
from reid_accel.data.listing import ImageFile, Listing
from reid_accel.data.splits import OpenedData

Splits = Mapping[str, Sequence[ImageFile]]


def content_fingerprint(listing: Listing) -> str:
    """A hash of all names and labels, as reports have it."""
    splits = {split: ImageDataset.of_files(images, listing.groups, None) for split, images in listing.splits.items()}
    return OpenedData(splits, (), ()).fingerprint()


def as_folders(splits: Splits, root: Path) -> Path:
    """`root/SPLIT/PERSON/CAMERA/image`; people are named as in the file names."""
    for split, images in splits.items():
        for image in images:
            folder = root / split / image.name.split("_")[0] / str(image.camera)
            folder.mkdir(parents=True, exist_ok=True)
            os.symlink(image.path, folder / image.name)
    return root


def as_market(splits: Splits, root: Path) -> Path:
    """The folders of Market-1501."""
    folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    for split, images in splits.items():
        (root / folders[split]).mkdir(parents=True)
        for image in images:
            os.symlink(image.path, root / folders[split] / image.name)
    return root


def as_table(splits: Splits, folder: Path) -> Path:
    """A CSV file with absolute paths; people are named as in the file names."""
    rows = [
        f"{os.path.abspath(image.path)},{image.name.split('_')[0]},{image.camera},{split}\n"
        for split, images in splits.items()
        for image in images
    ]
    (folder / "table.csv").write_text("path,person,camera,split\n" + "".join(rows))
    return folder / "table.csv"
