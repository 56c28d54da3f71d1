"""Attribute scores in the conventions of the literature, each with its majority baseline.

Legend: N images, A attribute groups, C annotation columns. Predictions and labels are class indices from 0;
a label of -1 (unknown) leaves that image out of that group's score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_accel.attributes.vocabulary import MARKET_GROUPS, MULTICOLOR, UNKNOWN, AttributeGroup

Indices = npt.NDArray[np.int64]

COLUMNS = "27 columns"
"""Each of Market-1501's annotation columns right or wrong."""


@dataclass(frozen=True)
class BinaryScores:
    """Scores of yes/no columns as the pedestrian-attribute literature defines them (Li et al., RAP, 2016).

    `mean_accuracy` (mA) is the mean of (TPR + TNR) / 2 over the columns that have positives and negatives;
    `columns_left_out` names the others, whose missing rate public codes count as 0. Precision and recall are means over
    images; undefined quotients count as 0. F1 is computed from the two means.
    """

    accuracy: float
    mean_accuracy: float | None
    columns_left_out: tuple[str, ...]
    instance_accuracy: float
    instance_precision: float
    instance_recall: float
    instance_f1: float


@dataclass(frozen=True)
class GroupScores:
    """One attribute group; every fraction in 0..1.

    `strict_accuracy` follows the 12-group convention: no prediction is correct for a color annotated as "none of the
    list". `accuracy` compares class indices, with multicolor as a class.
    """

    name: str
    accuracy: float
    strict_accuracy: float
    majority_baseline: float
    balanced_accuracy: float
    macro_f1: float
    num_images: int


@dataclass(frozen=True)
class AttributeScores:
    """Attribute accuracy by group, and in conventions: the mean over groups, that over annotation columns (for
    Market-1501's vocabulary alone), and that over yes/no columns.

    For Market-1501 these are called `12 groups`, `27 columns` and `30 binaries`. `majority` holds the same conventions
    for the majority baseline: each group's (or column's) most frequent training value.
    """

    num_images: int
    mean_over_groups: float
    columns_27: float | None
    binaries: BinaryScores
    majority: Mapping[str, float]
    groups: tuple[GroupScores, ...]
    num_columns: int

    @property
    def groups_name(self) -> str:
        """The convention's name, as in `12 groups`."""
        return _counted(len(self.groups), "group", "groups")

    @property
    def binaries_name(self) -> str:
        """The convention's name, as in `30 binaries`."""
        return _counted(self.num_columns, "binary", "binaries")

    def summary(self) -> dict[str, Any]:
        """The scores as JSON-serializable values: conventions by name (groups first, yes/no columns last), then one
        entry per group."""
        conventions: dict[str, Any] = {self.groups_name: {"accuracy": self.mean_over_groups}}
        if self.columns_27 is not None:
            conventions[COLUMNS] = {"accuracy": self.columns_27}
        binary = self.binaries
        conventions[self.binaries_name] = {
            "accuracy": binary.accuracy,
            "mA": binary.mean_accuracy,
            "instance_accuracy": binary.instance_accuracy,
            "instance_precision": binary.instance_precision,
            "instance_recall": binary.instance_recall,
            "instance_f1": binary.instance_f1,
            "columns_left_out": list(binary.columns_left_out),
        }
        for name, scores in conventions.items():
            scores["majority_baseline"] = self.majority[name]
            scores["num_images"] = self.num_images
        per_group = [
            {
                "name": group.name,
                "accuracy": group.strict_accuracy,
                "majority_baseline": group.majority_baseline,
                "balanced_accuracy": group.balanced_accuracy,
                "macro_f1": group.macro_f1,
                "num_images": group.num_images,
            }
            for group in self.groups
        ]
        return {"conventions": conventions, "per_group": per_group}


def score_attributes(
    predicted_NA: Indices,
    labels_NA: Indices,
    train_labels_NA: Indices,
    groups: Sequence[AttributeGroup] = MARKET_GROUPS,
) -> AttributeScores:
    """Score predictions of N images against their labels, with the majority of the training labels as a baseline.

    Shapes: predictions and labels N x A, training labels M x A (one row per training image, not per person, so that
    the majority is weighted like the training loss). Images without any label must be excluded by the caller.
    Source: Lin et al., "Improving person re-identification by attribute and identity learning", 2019.
    """
    assert predicted_NA.shape == labels_NA.shape, (predicted_NA.shape, labels_NA.shape)
    assert labels_NA.shape[1] == train_labels_NA.shape[1] == len(groups)
    majority_A = np.array([_most_frequent(train_labels_NA[:, a]) for a in range(len(groups))], np.int64)
    majority_NA = np.broadcast_to(majority_A, labels_NA.shape)
    columns_27, columns_majority = _score_columns(predicted_NA, labels_NA, train_labels_NA, groups)
    names = binary_names(groups)
    label_NC = to_binaries(labels_NA, groups)
    scores = AttributeScores(
        num_images=len(labels_NA),
        mean_over_groups=_mean_over_groups(predicted_NA, labels_NA, groups),
        columns_27=columns_27,
        binaries=score_binaries(to_binaries(predicted_NA, groups), label_NC, names),
        majority={},
        groups=tuple(
            _score_group(group, predicted_NA[:, a], labels_NA[:, a], int(majority_A[a]))
            for a, group in enumerate(groups)
        ),
        num_columns=len(names),
    )
    majority = {scores.groups_name: _mean_over_groups(majority_NA, labels_NA, groups)}
    if columns_majority is not None:
        majority[COLUMNS] = columns_majority
    majority[scores.binaries_name] = _column_majority(to_binaries(train_labels_NA, groups), label_NC)
    return replace(scores, majority=majority)


def _score_columns(
    predicted_NA: Indices, labels_NA: Indices, train_labels_NA: Indices, groups: Sequence[AttributeGroup]
) -> tuple[float | None, float | None]:
    """Accuracy over Market-1501's columns and that of its majority baseline, on images without an unknown label."""
    complete_N = (labels_NA != UNKNOWN).all(1)
    if tuple(groups) != MARKET_GROUPS or not complete_N.any():
        return None, None
    label_NC, predicted_NC = to_columns(labels_NA[complete_N]), to_columns(predicted_NA[complete_N])
    train = train_labels_NA[(train_labels_NA != UNKNOWN).all(1)]
    return float(np.mean(predicted_NC == label_NC)), _column_majority(to_columns(train), label_NC)


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _most_frequent(labels_N: Indices) -> int:
    known = labels_N[labels_N != UNKNOWN]
    return int(np.bincount(known).argmax()) if len(known) else 0


def _strictly_right(predicted_N: Indices, labels_N: Indices, group: AttributeGroup) -> npt.NDArray[np.bool_]:
    """Correct in the 12-group convention: multicolor labels never count as correct."""
    right_N = predicted_N == labels_N
    if group.values[0] == MULTICOLOR:
        return right_N & (labels_N != 0)
    return right_N


def _mean_over_groups(predicted_NA: Indices, labels_NA: Indices, groups: Sequence[AttributeGroup]) -> float:
    accuracies = []
    for a, group in enumerate(groups):
        known_N = labels_NA[:, a] != UNKNOWN
        if known_N.any():
            right_N = _strictly_right(predicted_NA[known_N, a], labels_NA[known_N, a], group)
            accuracies.append(right_N.mean())
    return float(np.mean(accuracies)) if accuracies else 0.0


def _score_group(group: AttributeGroup, predicted_N: Indices, labels_N: Indices, majority: int) -> GroupScores:
    known_N = labels_N != UNKNOWN
    predicted_N, labels_N = predicted_N[known_N], labels_N[known_N]
    if not len(labels_N):
        return GroupScores(group.name, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
    recalls, f1s = [], []
    for value in np.union1d(labels_N, predicted_N):
        hits = np.sum((predicted_N == value) & (labels_N == value))
        support, claimed = np.sum(labels_N == value), np.sum(predicted_N == value)
        if support:
            recalls.append(hits / support)
        f1s.append(2 * hits / (support + claimed))
    return GroupScores(
        name=group.name,
        accuracy=float(np.mean(predicted_N == labels_N)),
        strict_accuracy=float(np.mean(_strictly_right(predicted_N, labels_N, group))),
        majority_baseline=float(np.mean(_strictly_right(np.full_like(labels_N, majority), labels_N, group))),
        balanced_accuracy=float(np.mean(recalls)),
        macro_f1=float(np.mean(f1s)),
        num_images=len(labels_N),
    )


def to_columns(indices_NA: Indices) -> npt.NDArray[np.int64]:
    """N x 27: Market's annotation columns from 0 (age 0..3, all others 0 or 1), in file order."""
    ages = len(MARKET_GROUPS[0].values)
    return np.concatenate([indices_NA[:, :1], to_binaries(indices_NA, MARKET_GROUPS)[:, ages:]], axis=1)


def to_binaries(indices_NA: Indices, groups: Sequence[AttributeGroup]) -> npt.NDArray[np.int64]:
    """N x C: yes/no columns of 0 and 1, or -1 where the attribute is unknown.

    An attribute of two values is one column, which is 1 for the second value; any other has a column for each value but
    multicolor, which is none of the list.
    """
    columns = []
    for index_N, group in zip(indices_NA.T, groups, strict=True):
        one_hot_NV = np.where(index_N[:, None] == UNKNOWN, UNKNOWN, index_N[:, None] == np.arange(len(group.values)))
        columns.append(one_hot_NV[:, _first_column(group) :])
    return np.concatenate([np.zeros((len(indices_NA), 0), np.int64), *columns], axis=1)


def binary_names(groups: Sequence[AttributeGroup]) -> tuple[str, ...]:
    """The names of the columns of `to_binaries`."""
    names: list[str] = []
    for group in groups:
        if len(group.values) == 2:
            names.append(group.name)
        else:
            names += [f"{group.name.removesuffix('_color')} {value}" for value in group.values[_first_column(group) :]]
    return tuple(names)


def _first_column(group: AttributeGroup) -> int:
    return 1 if len(group.values) == 2 or group.values[0] == MULTICOLOR else 0


def _column_majority(train_NC: Indices, labels_NC: Indices) -> float:
    """Accuracy of predicting each column's most frequent training value, over known labels."""
    if not len(train_NC):
        return 0.0
    majority_C = np.array([_most_frequent(train_NC[:, c]) for c in range(train_NC.shape[1])])
    known_NC = labels_NC != UNKNOWN
    return float(np.mean((labels_NC == majority_C)[known_NC])) if known_NC.any() else 0.0


def score_binaries(predicted_NC: Indices, labels_NC: Indices, names: Sequence[str]) -> BinaryScores:
    """Accuracy, mA and the instance scores of yes/no predictions, N x C of 0 and 1.

    A label may be -1 (unknown), which leaves that column out of that image.
    """
    known_NC = labels_NC != UNKNOWN
    yes_NC, claimed_NC = (labels_NC == 1), (predicted_NC == 1) & known_NC
    hits_NC, no_NC = yes_NC & claimed_NC, (labels_NC == 0)
    positives_C, negatives_C = yes_NC.sum(0), no_NC.sum(0)
    usable_C = (positives_C > 0) & (negatives_C > 0)
    true_positive_rate_C = hits_NC.sum(0) / np.maximum(positives_C, 1)
    true_negative_rate_C = (no_NC & ~claimed_NC).sum(0) / np.maximum(negatives_C, 1)
    mean_C = (true_positive_rate_C + true_negative_rate_C) / 2
    hits_N = hits_NC.sum(1)
    precision = float(np.mean(hits_N / np.maximum(claimed_NC.sum(1), 1)))
    recall = float(np.mean(hits_N / np.maximum(yes_NC.sum(1), 1)))
    return BinaryScores(
        accuracy=float(np.mean((claimed_NC == yes_NC)[known_NC])) if known_NC.any() else 0.0,
        mean_accuracy=float(mean_C[usable_C].mean()) if usable_C.any() else None,
        columns_left_out=tuple(name for name, usable in zip(names, usable_C, strict=True) if not usable),
        instance_accuracy=float(np.mean(hits_N / np.maximum((claimed_NC | yes_NC).sum(1), 1))),
        instance_precision=precision,
        instance_recall=recall,
        instance_f1=2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    )


def junk_auc(attribute_square_sums_N: npt.NDArray[np.float64], is_person_N: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve for separating people from junk by the sum of squared attribute scores.

    This is the fraction of (person, junk) pairs in which the person has the larger sum, with ties counted half
    (Mann-Whitney U). Raises ValueError unless there are both people and junk.
    """
    from scipy.stats import rankdata

    num_people, num_junk = int(is_person_N.sum()), int((~is_person_N).sum())
    if not num_people or not num_junk:
        raise ValueError(f"the AUC needs people and junk, got {num_people} and {num_junk}")
    rank_sum = rankdata(attribute_square_sums_N)[is_person_N].sum()
    return float((rank_sum - num_people * (num_people + 1) / 2) / (num_people * num_junk))
