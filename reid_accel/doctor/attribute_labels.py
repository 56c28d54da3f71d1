"""What the attribute labels tell: unknown shares, values that are rare or missing, contradictions.

Legend: N images, A attribute groups, V values of a group.
"""

from collections.abc import Iterator

import numpy as np

from reid_accel.attributes.vocabulary import UNKNOWN, AttributeGroup
from reid_accel.data.dataset import ImageDataset, Ints
from reid_accel.doctor.findings import NUMBERS, TRAIN, Finding, Numbering, Place, Splits, each_alone, number_of
from reid_accel.errors import listed

MANY_UNKNOWN = 0.5
FEW_PEOPLE, ENOUGH_PEOPLE = 5, 50
PER_IMAGE = 0.2


def attribute_findings(splits: Splits, numbering: Numbering = NUMBERS) -> Iterator[Finding]:
    """Findings on the attributes; none for a set without any."""
    yield from _unknown(splits[TRAIN])
    if len(np.unique(_subjects(splits[TRAIN]))) >= ENOUGH_PEOPLE:
        for place, group in enumerate(splits[TRAIN].groups):
            yield from _values(splits[TRAIN], place, group)
    yield from _contradictions({TRAIN: splits[TRAIN]} if numbering.apart else splits, numbering)


def _unknown(train: ImageDataset) -> Iterator[Finding]:
    shares_A = (train.attributes_NA == UNKNOWN).mean(0)
    mostly = {group.name: share for group, share in zip(train.groups, shares_A, strict=True) if share > MANY_UNKNOWN}
    if mostly:
        named = listed((f"{name} {share:.0%}" for name, share in mostly.items()), 5)
        yield Finding(
            "attributes-unknown",
            "warning",
            f"{number_of(len(mostly), 'attribute is', 'attributes are')} unknown for most images of train ({named}): "
            "their heads learn from the others only",
            "Complete the annotation, or train without attributes (--model.no-attributes).",
        )


def _subjects(train: ImageDataset) -> Ints:
    """Who is on each image; images without a known person count as different people."""
    return np.where(train.pid_N > 0, train.pid_N, -np.arange(len(train)) - 1)


def _values(train: ImageDataset, place: int, group: AttributeGroup) -> Iterator[Finding]:
    """A value that no training image has, or so few people that a network learns the people instead."""
    value_N, subject_N = train.attributes_NA[:, place], _subjects(train)
    subjects_V = [len(np.unique(subject_N[value_N == value])) for value in range(len(group.values))]
    of_value = dict(zip(group.values, subjects_V, strict=True))
    missing = [value for value, subjects in of_value.items() if subjects == 0]
    rare = {value: subjects for value, subjects in of_value.items() if 0 < subjects < FEW_PEOPLE}
    if len(missing) == len(group.values):
        return  # all unknown
    if len(missing) == len(group.values) - 1:
        (only,) = set(group.values) - set(missing)
        yield Finding(
            "attribute-constant",
            "warning",
            f"all images of train have {group.name} {only}: its head learns nothing",
            "Remove the attribute, or add images with its other values.",
        )
    elif missing:
        yield Finding(
            "attribute-value-missing",
            "note",
            f"no image of train has {group.name} {listed(missing)}: it is never predicted",
            "Add images with this value, or remove the value from the annotation.",
        )
    if rare:
        named = listed(f"{value} ({number_of(subjects, 'person', 'people')})" for value, subjects in rare.items())
        wanted = [row for row, value in enumerate(value_N.tolist()) if value >= 0 and group.values[value] in rare]
        yield Finding(
            "attribute-value-rare",
            "note",
            f"fewer than {FEW_PEOPLE} people in train have {group.name} {named}: what is learned is these people",
            "Judge the attribute by balanced accuracy; add people with this value, or merge it with another.",
            each_alone(TRAIN, wanted),
        )


def _contradictions(splits: Splits, numbering: Numbering) -> Iterator[Finding]:
    """People with different values of an attribute, in a set that is annotated per person: most have one value."""
    groups = splits[TRAIN].groups
    torn_A = [_people_with_several_values(splits, place) for place in range(len(groups))]
    if any(len(torn) > max(1, PER_IMAGE * several) for torn, several in torn_A):
        return  # annotated per image
    for place, (torn, _) in enumerate(torn_A):
        if len(torn):
            yield _contradiction(splits, place, torn, numbering)


def _people_with_several_values(splits: Splits, place: int) -> tuple[Ints, int]:
    """The people with several known values of an attribute, and the number of people with several images."""
    pid_N = np.concatenate([images.pid_N for images in splits.values()])
    value_N = np.concatenate([images.attributes_NA[:, place] for images in splits.values()])
    known = np.flatnonzero((pid_N > 0) & (value_N != UNKNOWN))
    pairs = np.unique(np.stack([pid_N[known], value_N[known]], 1), axis=0)
    pid_P, values_P = np.unique(pairs[:, 0], return_counts=True)
    images_P = np.unique(pid_N[known], return_counts=True)[1]
    return pid_P[values_P > 1], int((images_P > 1).sum())


def _contradiction(splits: Splits, place: int, torn: Ints, numbering: Numbering) -> Finding:
    of_person: dict[int, list[Place]] = {pid: [] for pid in torn.tolist()}
    for split, images in splits.items():
        is_known_N = (images.pid_N > 0) & (images.attributes_NA[:, place] != UNKNOWN)
        for row in np.flatnonzero(is_known_N & np.isin(images.pid_N, torn)).tolist():
            of_person[int(images.pid_N[row])].append(Place(split, row))
    return Finding(
        "attribute-contradiction",
        "warning",
        f"{number_of(len(torn), 'person has', 'people have')} different values of {splits[TRAIN].groups[place].name} "
        f"on different images ({numbering.listed(of_person)}), while the others have one",
        "Correct the annotation. --fix writes this attribute of these people as unknown.",
        tuple(map(tuple, of_person.values())),
        unknown=tuple((image, place) for images in of_person.values() for image in images),
    )
