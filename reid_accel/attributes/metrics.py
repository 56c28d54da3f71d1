"""Attribute scores in the conventions of the literature, each with its majority baseline.

Legend: N images, A attribute groups, C annotation columns. Predictions and labels are class indices from 0;
a label of -1 (unknown) leaves that image out of that group's score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_accel.attributes.vocabulary import (
    LOWER_COLOR,
    MARKET_GROUPS,
    MULTICOLOR,
    UNKNOWN,
    UPPER_COLOR,
    AttributeGroup,
)

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BinaryScores:
    """Scores of yes/no columns as the pedestrian-attribute literature defines them (Li et al., RAP, 2016).

    `mean_accuracy` (mA) is the mean of (TPR + TNR) / 2 over the columns that have positives and negatives;
    `columns_left_out` names the others. Precision and recall are means over images; undefined quotients count as 0. F1
    is computed from the two means.
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
    """Attribute accuracy in three conventions (12 groups, 27 columns, 30 binaries) and per group.

    `columns_27`, `columns_30` and the binary scores are None unless the vocabulary is Market-1501's. `majority` holds
    the same conventions for the majority baseline: each group's (or column's) most frequent training value.
    """

    num_images: int
    groups_12: float
    columns_27: float | None
    binaries_30: BinaryScores | None
    majority: Mapping[str, float]
    groups: tuple[GroupScores, ...]

    def summary(self) -> dict[str, Any]:
        """The scores as JSON-serializable values: conventions by name, then one entry per group."""
        conventions: dict[str, Any] = {"12 groups": {"accuracy": self.groups_12}}
        if self.columns_27 is not None and self.binaries_30 is not None:
            binary = self.binaries_30
            conventions["27 columns"] = {"accuracy": self.columns_27}
            conventions["30 binaries"] = {
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
    majority = {"12 groups": _mean_over_groups(majority_NA, labels_NA, groups)}
    columns_27, binaries_30 = None, None
    complete_N = (labels_NA != UNKNOWN).all(1)
    if tuple(groups) == MARKET_GROUPS and complete_N.any():
        predicted, labels = predicted_NA[complete_N], labels_NA[complete_N]
        train = train_labels_NA[(train_labels_NA != UNKNOWN).all(1)]
        columns_27 = float(np.mean(to_columns(predicted) == to_columns(labels)))
        binaries_30 = score_binaries(to_binaries(predicted), to_binaries(labels), BINARY_NAMES)
        majority["27 columns"] = _column_majority(to_columns(train), to_columns(labels))
        majority["30 binaries"] = _column_majority(to_binaries(train), to_binaries(labels))
    return AttributeScores(
        num_images=len(labels_NA),
        groups_12=_mean_over_groups(predicted_NA, labels_NA, groups),
        columns_27=columns_27,
        binaries_30=binaries_30,
        majority=majority,
        groups=tuple(
            _score_group(group, predicted_NA[:, a], labels_NA[:, a], int(majority_A[a]))
            for a, group in enumerate(groups)
        ),
    )


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
    upper_NC = _one_hot(indices_NA[:, -2], len(UPPER_COLOR.values))[:, 1:]
    lower_NC = _one_hot(indices_NA[:, -1], len(LOWER_COLOR.values))[:, 1:]
    return np.concatenate([indices_NA[:, :-2], upper_NC, lower_NC], axis=1)


def to_binaries(indices_NA: Indices) -> npt.NDArray[np.int64]:
    """N x 30: as `to_columns`, with age as four yes/no columns."""
    columns_NC = to_columns(indices_NA)
    return np.concatenate([_one_hot(columns_NC[:, 0], 4), columns_NC[:, 1:]], axis=1)


BINARY_NAMES: tuple[str, ...] = (
    *(f"age {value}" for value in MARKET_GROUPS[0].values),
    *(group.name for group in MARKET_GROUPS[1:-2]),
    *(f"upper {color}" for color in UPPER_COLOR.values[1:]),
    *(f"lower {color}" for color in LOWER_COLOR.values[1:]),
)


def _one_hot(indices_N: Indices, size: int) -> npt.NDArray[np.int64]:
    return np.eye(size, dtype=np.int64)[indices_N]


def _column_majority(train_NC: Indices, labels_NC: Indices) -> float:
    """Accuracy of predicting each column's most frequent training value."""
    if not len(train_NC):
        return 0.0
    majority_C = np.array([np.bincount(train_NC[:, c]).argmax() for c in range(train_NC.shape[1])])
    return float(np.mean(labels_NC == majority_C))


def score_binaries(predicted_NC: Indices, labels_NC: Indices, names: Sequence[str]) -> BinaryScores:
    """Accuracy, mA and the instance scores of yes/no predictions, N x C of 0 and 1."""
    hits_NC = predicted_NC & labels_NC
    positives_C, negatives_C = labels_NC.sum(0), (1 - labels_NC).sum(0)
    usable_C = (positives_C > 0) & (negatives_C > 0)
    true_positive_rate_C = hits_NC.sum(0) / np.maximum(positives_C, 1)
    true_negative_rate_C = ((1 - predicted_NC) & (1 - labels_NC)).sum(0) / np.maximum(negatives_C, 1)
    mean_C = (true_positive_rate_C + true_negative_rate_C) / 2
    hits_N = hits_NC.sum(1)
    precision = float(np.mean(hits_N / np.maximum(predicted_NC.sum(1), 1)))
    recall = float(np.mean(hits_N / np.maximum(labels_NC.sum(1), 1)))
    return BinaryScores(
        accuracy=float(np.mean(predicted_NC == labels_NC)),
        mean_accuracy=float(mean_C[usable_C].mean()) if usable_C.any() else None,
        columns_left_out=tuple(name for name, usable in zip(names, usable_C, strict=True) if not usable),
        instance_accuracy=float(np.mean(hits_N / np.maximum((predicted_NC | labels_NC).sum(1), 1))),
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
