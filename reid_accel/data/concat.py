"""Several data sets as one training set."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reid_accel.attributes.matching import join_sentences, joined_groups, labels_in
from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.data.listing import UNKNOWN_CAMERA, UNKNOWN_TRACKLET, ImageFile, Listing
from reid_accel.errors import InputError

LARGEST_PID = 2**63 - 1


@dataclass(frozen=True)
class SplitListing:
    """The images of a split; of training images, the first `added_images`, with persons up to `added_people`, come from
    additional sets. notes: how the attributes of several sets were joined."""

    images: tuple[ImageFile, ...]
    groups: tuple[AttributeGroup, ...]
    fingerprint: str
    added_people: int = 0
    added_images: int = 0
    notes: tuple[str, ...] = ()


def joined(main: Listing, others: Mapping[str, Listing]) -> SplitListing:
    """The training images of the additional sets, in the given order, then those of the main set.

    People of different sets are distinct: the pids of each set are offset by the largest pid of the previous sets;
    tracklets and cameras likewise, but the main set's cameras keep their numbers. The attribute groups are the union
    over all sets, and their values too, the main set's first; images have -1 (unknown) for groups that their set lacks.
    Image names of additional sets are prefixed with the set's name.
    """
    others = _with_cameras_of_their_own(main, others)
    groups_of_sets = {"the main set": main.groups, **{name: listing.groups for name, listing in others.items()}}
    groups = joined_groups(groups_of_sets)
    images: list[ImageFile] = []
    largest = added_people = added_images = num_tracklets = 0
    for name, listing in (*others.items(), ("", main)):
        added_people = largest
        own = listing.splits["train"]
        added_images = len(images)
        images += _relabeled(own, name, (added_people, num_tracklets), _attributes_in(groups, listing.groups, own))
        largest += max([0, *(image.pid for image in own)])
        num_tracklets += max([UNKNOWN_TRACKLET, *(image.tracklet for image in own)]) + 1
    if largest > LARGEST_PID or num_tracklets - 1 > LARGEST_PID:
        what = "person" if largest > LARGEST_PID else "tracklet"
        raise InputError(f"data.also: the {what} numbers of all sets add up to more than 64 bits; use smaller numbers")
    fingerprint = "+".join(listing.fingerprint for listing in (main, *others.values()))
    notes = join_sentences(groups_of_sets)
    return SplitListing(tuple(images), groups, fingerprint, added_people, added_images, notes)


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


def _relabeled(
    images: Sequence[ImageFile], set_name: str, added: tuple[int, int], attributes: Iterable[tuple[int, ...]]
) -> Iterator[ImageFile]:
    added_people, added_tracklets = added
    for image, values in zip(images, attributes, strict=True):
        yield image._replace(
            name=f"{set_name}/{image.name}" if set_name else image.name,
            pid=image.pid + added_people if image.pid > 0 else image.pid,
            tracklet=UNKNOWN_TRACKLET if image.tracklet == UNKNOWN_TRACKLET else image.tracklet + added_tracklets,
            attributes=values,
        )


def _attributes_in(
    groups: tuple[AttributeGroup, ...], own_groups: tuple[AttributeGroup, ...], images: Sequence[ImageFile]
) -> Iterable[tuple[int, ...]]:
    if groups == own_groups:
        return (image.attributes for image in images)
    label_NA = np.array([image.attributes for image in images], np.int64).reshape(len(images), len(own_groups))
    return map(tuple, labels_in(groups, own_groups, label_NA).tolist())
