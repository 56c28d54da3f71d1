"""Vocabularies of several data sets: joined for training, and matched by name for scoring.

Names and values are compared letter by letter: what differs in case or spelling only is pointed out, never joined.
Legend: N images, A attribute groups.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt

from reid_accel.attributes.vocabulary import UNKNOWN, AttributeGroup
from reid_accel.errors import InputError, listed

Groups = tuple[AttributeGroup, ...]
Indices = npt.NDArray[np.int64]

ALIKE_NAMES, ALIKE_VALUES = 0.85, 0.75  # difflib's ratio; of "gray" and "grey": 0.75


def shared_groups(model_groups: Sequence[AttributeGroup], data_groups: Sequence[AttributeGroup]) -> Groups:
    """The model's groups that the data has labels for.

    Raises InputError if the data has values of such a group that the model can't predict.
    """
    of_data = {group.name: group for group in data_groups}
    shared = tuple(group for group in model_groups if group.name in of_data)
    differing = [
        f"{group.name} (the data has {listed(unknown)}, the model {listed(group.values, 20)})"
        for group in shared
        if (unknown := [value for value in of_data[group.name].values if value not in group.values])
    ]
    if differing:
        raise InputError(
            f"the model's attributes do not match the data's: the values differ of {', '.join(differing)}. Score on "
            "data with the same values, or remove the data's annotation file"
        )
    return shared


def missing_groups_warning(model_groups: Sequence[AttributeGroup], data_groups: Sequence[AttributeGroup]) -> str | None:
    """What is left out of scoring because only the model or only the data has it; None if nothing is."""
    if not model_groups or not data_groups:
        return None
    ours, theirs = ({group.name for group in groups} for groups in (model_groups, data_groups))
    parts = [
        f"{listed([group.name for group in groups if group.name in only])} ({reason})"
        for groups, only, reason in (
            (model_groups, ours - theirs, "without labels of the test images"),
            (data_groups, theirs - ours, "not predicted by the model"),
        )
        if only
    ]
    alike = _alike({"model": sorted(ours), "data": sorted(theirs)}, ALIKE_NAMES)
    if alike:
        pairs = listed([f"{one} and {other}" for one, other in alike])
        parts.append(f"spelled alike but different: {pairs}; rename them in the annotation if they mean the same")
    return f"attributes left out of the scores: {'; '.join(parts)}" if parts else None


def labels_in(groups: Sequence[AttributeGroup], data_groups: Sequence[AttributeGroup], label_NA: Indices) -> Indices:
    """Labels of `data_groups` as class indices of `groups`; -1 (unknown) for groups that the data lacks."""
    columns = np.full((len(label_NA), len(groups)), UNKNOWN, np.int64)
    place_of = {group.name: place for place, group in enumerate(data_groups)}
    for column, group in enumerate(groups):
        place = place_of.get(group.name)
        if place is not None:
            new_V = np.array([*value_map(data_groups[place], group), UNKNOWN])
            columns[:, column] = new_V[label_NA[:, place]]  # -1 is the last entry
    return columns


def value_map(old: AttributeGroup, new: AttributeGroup) -> tuple[int, ...]:
    """The index in `new` of each value of `old`, which `new` must have."""
    return tuple(new.values.index(value) for value in old.values)


def joined_groups(groups_of_sets: Mapping[str, Sequence[AttributeGroup]]) -> Groups:
    """The union of the groups of several sets by name, and of each group's values, in the order of the sets."""
    joined: dict[str, AttributeGroup] = {}
    for groups in groups_of_sets.values():
        for group in groups:
            before = joined.get(group.name)
            values = group.values if before is None else tuple(dict.fromkeys((*before.values, *group.values)))
            joined[group.name] = AttributeGroup(group.name, values)
    return tuple(joined.values())


def join_sentences(groups_of_sets: Mapping[str, Sequence[AttributeGroup]]) -> tuple[str, ...]:
    """What joining the attributes of several sets means, for the log: joined values, groups of some sets, spellings.

    The first set is the main one.
    """
    annotated = {name: groups for name, groups in groups_of_sets.items() if groups}
    if len(annotated) < 2:
        return ()
    joined, (main, *_) = joined_groups(annotated), groups_of_sets
    has = {
        group.name: [name for name, groups in annotated.items() if group in groups or _named(groups, group)]
        for group in joined
    }
    both = [group for group in joined if len(has[group.name]) > 1]
    parts = [f"joined by name: {listed([group.name for group in both], 40) or 'none'}"]
    parts += [_values_sentence(group, annotated) for group in both if _values_differ(group, annotated)]
    for name in annotated:
        only = [group.name for group in joined if has[group.name] == [name]]
        parts += [f"only in {name}: {listed(only, 40)}"] if only else []
    if main in annotated and any(main not in names for names in has.values()):
        parts.append(f"what {main} has no labels for is trained, but not scored")
    return (f"attributes of several sets: {'; '.join(parts)}", *_spelling_sentences(annotated, joined))


def _named(groups: Sequence[AttributeGroup], like: AttributeGroup) -> AttributeGroup | None:
    return next((group for group in groups if group.name == like.name), None)


def _values_differ(group: AttributeGroup, groups_of_sets: Mapping[str, Sequence[AttributeGroup]]) -> bool:
    return any((own := _named(groups, group)) and own.values != group.values for groups in groups_of_sets.values())


def _values_sentence(group: AttributeGroup, groups_of_sets: Mapping[str, Sequence[AttributeGroup]]) -> str:
    missing = [
        f"{name} lacks {listed(lacks)}"
        for name, groups in groups_of_sets.items()
        if (own := _named(groups, group)) and (lacks := [value for value in group.values if value not in own.values])
    ]
    return f"{group.name} has the values {listed(group.values, 40)}" + (f" ({', '.join(missing)})" if missing else "")


def _spelling_sentences(
    groups_of_sets: Mapping[str, Sequence[AttributeGroup]], joined: Sequence[AttributeGroup]
) -> tuple[str, ...]:
    """Names or values of different sets that differ in case or spelling only."""
    names = {name: [group.name for group in groups] for name, groups in groups_of_sets.items()}
    pairs = [("the attributes", *pair) for pair in _alike(names, ALIKE_NAMES)]
    for group in joined:
        values = {name: own.values for name, groups in groups_of_sets.items() if (own := _named(groups, group))}
        pairs += [(f"of {group.name}, the values", *pair) for pair in _alike(values, ALIKE_VALUES)]
    return tuple(
        f"{what} {one} and {other} of different sets are spelled alike but count as different: rename one in its "
        "annotation if they mean the same"
        for what, one, other in pairs
    )


def _alike(words_of_sets: Mapping[str, Sequence[str]], ratio: float) -> list[tuple[str, str]]:
    """Pairs of words that only one of two sets has and that are spelled alike."""
    found: dict[tuple[str, str], None] = {}
    sets = [set(words) for words in words_of_sets.values()]
    for number, one in enumerate(sets):
        for other in sets[number + 1 :]:
            plain = {_plain(word): word for word in sorted(other - one)}
            for word in sorted(one - other):
                for match in get_close_matches(_plain(word), plain, n=1, cutoff=ratio):
                    if _digits(word) == _digits(match):  # 16-30 and 18-60 mean something else
                        found[word, plain[match]] = None
    return list(found)


def _digits(word: str) -> list[str]:
    return [letter for letter in word if letter.isdigit()]


def _plain(word: str) -> str:
    return "".join(letter for letter in word.casefold() if letter.isalnum()) or word
