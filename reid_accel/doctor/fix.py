"""`--fix`: the table of a data set without the images that findings leave out. The images are never touched."""

from pathlib import Path

from reid_accel.attributes.vocabulary import UNKNOWN
from reid_accel.data.forms.table_writer import write_table
from reid_accel.data.listing import ImageFile, Listing
from reid_accel.doctor.examine import Diagnosis
from reid_accel.doctor.findings import TRAIN, Place, number_of
from reid_accel.errors import InputError


def write_fixed(path: Path, diagnosis: Diagnosis, listing: Listing) -> str:
    """Write the table; returns a sentence on what it leaves out. Raises InputError if a split would be empty."""
    splits = fixed_splits(diagnosis, listing)
    for split, images in splits.items():
        if not images:
            raise InputError(f"nothing would be left of the split {split}: correct the data set by hand")
    write_table(path, splits, listing.groups, listing.people)
    fewer = {split: len(listing.splits[split]) - len(images) for split, images in splits.items()}
    lost = ", ".join(f"{number} of {split}" for split, number in fewer.items() if number)
    changed = len({place for finding in diagnosis.findings for place, _ in finding.unknown})
    sentence = f"{path} leaves out {lost or 'no image'}"
    sentence += f", and makes attributes of {number_of(changed, 'image')} unknown" if changed else ""
    if any(number for split, number in fewer.items() if split != TRAIN):
        sentence += "; scores on its test images are not comparable with those on all of them"
    return sentence


def fixed_splits(diagnosis: Diagnosis, listing: Listing) -> dict[str, tuple[ImageFile, ...]]:
    """The images of each split that no finding leaves out, with contradictory attributes unknown."""
    left_out = {place for finding in diagnosis.findings for place in finding.left_out}
    unknown: dict[Place, set[int]] = {}
    for finding in diagnosis.findings:
        for place, group in finding.unknown:
            unknown.setdefault(place, set()).add(group)
    return {
        split: tuple(
            _without_values(image, unknown.get(Place(split, row), set()))
            for row, image in enumerate(images)
            if Place(split, row) not in left_out
        )
        for split, images in listing.splits.items()
    }


def _without_values(image: ImageFile, groups: set[int]) -> ImageFile:
    if not groups:
        return image
    values = tuple(UNKNOWN if group in groups else value for group, value in enumerate(image.attributes))
    return image._replace(attributes=values)
