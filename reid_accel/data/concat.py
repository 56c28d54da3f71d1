"""Several data sets as one training set."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reid_accel.attributes.vocabulary import UNKNOWN, AttributeGroup
from reid_accel.data.listing import UNKNOWN_CAMERA, UNKNOWN_TRACKLET, ImageFile, Listing
from reid_accel.errors import InputError, listed

LARGEST_PID = 2**63 - 1


@dataclass(frozen=True)
class SplitListing:
    """The images of a split; of training images, persons up to `added_people` come from additional sets."""

    images: tuple[ImageFile, ...]
    groups: tuple[AttributeGroup, ...]
    fingerprint: str
    added_people: int = 0


def joined(main: Listing, others: Mapping[str, Listing]) -> SplitListing:
    """The training images of the additional sets, in the given order, then those of the main set.

    People of different sets are distinct: the pids of each set are offset by the largest pid of the previous sets;
    tracklets and cameras likewise, but the main set's cameras keep their numbers. The attribute groups are the union
    over all sets; images have -1 (unknown) for groups that their set lacks. Image names of additional sets are prefixed
    with the set's name.
    Raises InputError when two sets have an attribute of the same name with different values.
    """
    others = _with_cameras_of_their_own(main, others)
    groups = {group.name: group for group in main.groups}
    for name, listing in others.items():
        for group in listing.groups:
            if groups.setdefault(group.name, group) != group:
                raise InputError(
                    f"data.also: the attribute {group.name} has the values {listed(group.values)} in {name} and "
                    f"{listed(groups[group.name].values)} elsewhere; these sets cannot be combined"
                )
    if main.groups and len(groups) > len(main.groups):
        raise InputError(
            f"data.also adds the attributes {listed(sorted(set(groups) - {group.name for group in main.groups}))}, "
            "which the main set lacks, so the model could not be scored on it: omit that set or its annotation file"
        )
    images: list[ImageFile] = []
    largest = added_people = num_tracklets = 0
    for name, listing in (*others.items(), ("", main)):
        added_people = largest
        own = listing.splits["train"]
        place = {group.name: number for number, group in enumerate(listing.groups)}
        places = [place.get(group_name) for group_name in groups]
        images += (_renumbered(image, name, added_people, num_tracklets, places) for image in own)
        largest += max([0, *(image.pid for image in own)])
        num_tracklets += max([UNKNOWN_TRACKLET, *(image.tracklet for image in own)]) + 1
    if largest > LARGEST_PID or num_tracklets - 1 > LARGEST_PID:
        what = "person" if largest > LARGEST_PID else "tracklet"
        raise InputError(f"data.also: the {what} numbers of all sets add up to more than 64 bits; use smaller numbers")
    fingerprint = "+".join(listing.fingerprint for listing in (main, *others.values()))
    return SplitListing(tuple(images), tuple(groups.values()), fingerprint, added_people)


def _with_cameras_of_their_own(main: Listing, others: Mapping[str, Listing]) -> dict[str, Listing]:
    """The additional sets with other camera numbers for their training images than all previous sets and `main`."""
    renumbered, used = {}, max(image.camera for images in main.splits.values() for image in images)
    for name, listing in others.items():
        first = used + 1
        train = tuple(
            image if image.camera == UNKNOWN_CAMERA else image._replace(camera=image.camera + first)
            for image in listing.splits["train"]
        )
        renumbered[name] = replace(listing, splits={**listing.splits, "train": train})
        used = max([used, *(image.camera for image in train)])
    if used > LARGEST_PID:
        raise InputError("data.also: the camera numbers of all sets add up to more than 64 bits; use smaller numbers")
    return renumbered


def _renumbered(
    image: ImageFile, set_name: str, added: int, added_tracklets: int, places: list[int | None]
) -> ImageFile:
    return image._replace(
        name=f"{set_name}/{image.name}" if set_name else image.name,
        pid=image.pid + added if image.pid > 0 else image.pid,
        tracklet=UNKNOWN_TRACKLET if image.tracklet == UNKNOWN_TRACKLET else image.tracklet + added_tracklets,
        attributes=tuple(UNKNOWN if place is None else image.attributes[place] for place in places),
    )
