"""What scoring and the files of predictions need of names and labels, checked before any image is decoded."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from reid_accel.attributes.vocabulary import UNKNOWN, AttributeGroup
from reid_accel.data.listing import ImageFile, Listing, has_people
from reid_accel.errors import InputError, listed, shortened
from reid_accel.files import is_utf8

SEPARATORS = ',:"'
_FORMULA = re.compile(r"[=+@]|-(?!\d+_c)")  # Market-1501's junk images are called -1_c...


def check_listing(listing: Listing) -> None:
    """Raise InputError, naming the file, if the main set of a run can't be trained on, scored, or written about."""
    for split, images in listing.splits.items():
        if not images:
            raise InputError(f"the split {split} has no images")
        _check_attributes(split, images, listing.groups)
        _check_unique(split, images)
    _check_queries(listing.splits.get("query", ()))
    if listing.scores_attributes_only:
        _check_attributes_only(listing)
    for split in ("queries", "test") if "queries" in listing.splits else ():
        images = listing.splits[split]
        check_names((image.name for image in images), f"{split} ({images[0].path.parent})")


def check_added_listing(name: str, listing: Listing) -> None:
    """Raise InputError if the training images of an additional set can't be used; its other splits are not."""
    _check_attributes(f"train of {name}", listing.splits["train"], listing.groups)


def check_people(name: str, listing: Listing, main: Listing) -> None:
    """Raise InputError if images without identities are added to a set with people."""
    if has_people(main.splits["train"]) and not has_people(listing.splits["train"]):
        raise InputError(
            f"data.also: the images of {name} have no identities, so they can't be added to a set that trains them: "
            "train on it alone, or make it the main set (--data.name) and add the other one to it"
        )


def _check_attributes_only(listing: Listing) -> None:
    """A set without query and gallery must have known attributes, for training and for scoring."""
    for split in ("train", "test"):
        if not any(max(image.attributes, default=UNKNOWN) != UNKNOWN for image in listing.splits[split]):
            raise InputError(
                f"the split {split} has no labels of attributes, and without query and gallery nothing else can be "
                "scored: annotate it, or name query and gallery images"
            )


def _check_queries(images: Sequence[ImageFile]) -> None:
    wrong = [image for image in images if image.pid <= 0]
    if wrong:
        raise InputError(
            f"{len(wrong)} of {len(images)} queries have a person number below 1 (the first is {wrong[0].path}): 0 "
            "marks distractors and -1 junk, which belong only into the gallery. Remove these queries; if 0 is a "
            "person, number people from 1"
        )


def _check_unique(split: str, images: Sequence[ImageFile]) -> None:
    name, times = Counter(image.name for image in images).most_common(1)[0]
    if times > 1:
        paths = [image.path for image in images if image.name == name]
        raise InputError(
            f"{split} has {times} images called {shortened(name)} ({paths[0]} and {paths[1]}), but results identify "
            "images by name: rename or remove all but one"
        )


def _check_attributes(split: str, images: Sequence[ImageFile], groups: Sequence[AttributeGroup]) -> None:
    for image in images:
        for group, value in zip(groups, image.attributes, strict=True):
            if not UNKNOWN <= value < len(group.values):
                raise InputError(
                    f"{split}, image {shortened(image.name)}: the attribute {group.name} has the value {value}; it "
                    f"must be from 0 to {len(group.values) - 1}, or {UNKNOWN} if unknown"
                )


def check_names(names: Iterable[str], place: str) -> None:
    """Raise InputError unless the files of predictions can contain all these file names."""
    for name in names:
        problem = name_problem(name) if is_utf8(name) else None  # others are refused, or skipped, when they are read
        if problem:
            raise InputError(
                f"{place}: {problem}, so that the files of predictions could not be written: rename the image (in a "
                "table: give it another name in the column `name`)"
            )


def name_problem(name: str) -> str | None:
    """Why `name` can't be the file name of an image in the files of predictions, None when it can."""
    shown = repr(shortened(name))
    if not name:
        return "a file name is missing"
    if name != name.strip():
        return f"whitespace around the file name {shown}"
    if not name.isprintable() or "\ufffd" in name:
        return f"the file name {shown} contains an unprintable character"
    if any(separator in name for separator in SEPARATORS):
        return f"the file name {shown} contains a comma, a colon or a quotation mark"
    if "/" in name or "\\" in name:
        return f"{shown} must be a file name without a folder"
    stem, dot, suffix = name.rpartition(".")
    if not dot or not stem or not suffix:
        return f"{shown} is not the file name of an image (016903.jpg)"
    return None


def formula_warning(names: Sequence[str], file_name: str) -> str | None:
    """A warning if spreadsheets would compute file names instead of showing them; None if all are harmless.

    The names can't be quoted: readers of these files compare them with the images' names.
    """
    formulas = [name for name in names if _FORMULA.match(name)]
    if not formulas:
        return None
    return (
        f"{len(formulas):,} image names in {file_name} look like formulas ({listed(formulas, 3)}): when you open it in "
        "a spreadsheet, import that column as text"
    )
