from pathlib import Path

import numpy as np
import pytest
import scipy.io

from reid_accel.attributes.annotations import read_market_mat
from reid_accel.attributes.metrics import binary_names, junk_auc, score_attributes, score_binaries, to_binaries
from reid_accel.attributes.vocabulary import LOWER_COLORS, MARKET_GROUPS, UPPER_COLORS, AttributeGroup

PREDICTION_ORDER = ("gender", "hair", "age", "up", "down", "clothes", "hat", "backpack", "bag", "handbag")
PREDICTION_UPPER = ("black", "white", "red", "purple", "gray", "blue", "green", "yellow")
PREDICTION_LOWER = ("black", "white", "pink", "gray", "blue", "green", "brown", "yellow", "purple")


def real_predictions(folder: Path) -> np.ndarray:
    """gallery_market.mat in our order of groups, class indices from 0."""
    table = scipy.io.loadmat(folder / "gallery_market.mat")["gallery"].astype(np.int64) - 1
    columns = {name: table[:, place] for place, name in enumerate(PREDICTION_ORDER)}
    columns["upper_color"] = np.array([1 + UPPER_COLORS.index(c) for c in PREDICTION_UPPER])[table[:, 10]]
    columns["lower_color"] = np.array([1 + LOWER_COLORS.index(c) for c in PREDICTION_LOWER])[table[:, 11]]
    return np.stack([columns[group.name] for group in MARKET_GROUPS], axis=1)


def person(name: str) -> int:
    return int(name.split("_")[0])


def test_real_predictions_score_as_published(shared_data: Path) -> None:
    folder = shared_data / "market1501"
    people = read_market_mat(folder / "market_attribute.mat")
    gallery = sorted(name for name in (folder / "names_test.txt").read_text().split() if person(name) > 0)
    train = (folder / "names_train.txt").read_text().split()
    scores = score_attributes(
        real_predictions(folder),
        np.array([people["test"][person(name)] for name in gallery]),
        np.array([people["train"][person(name)] for name in train]),
    )
    assert scores.num_images == 13_115
    assert 100 * scores.mean_over_groups == pytest.approx(85.33, abs=0.005)
    assert scores.columns_27 is not None
    assert 100 * scores.columns_27 == pytest.approx(91.93, abs=0.005)
    binary = scores.binaries
    assert 100 * binary.accuracy == pytest.approx(92.30, abs=0.005)
    assert binary.mean_accuracy is not None
    assert 100 * binary.mean_accuracy == pytest.approx(74.21, abs=0.005)
    assert len(binary.columns_left_out) == 1
    instance = (binary.instance_accuracy, binary.instance_precision, binary.instance_recall)
    assert [100 * value for value in instance] == pytest.approx([72.61, 83.84, 82.09], abs=0.005)
    assert [100 * value for value in scores.majority.values()] == pytest.approx([71.59, 85.51, 86.53], abs=0.005)
    expected = {
        "gender": 86.45, "age": 87.08, "hair": 83.65, "up": 93.66, "down": 93.32, "clothes": 91.46,
        "backpack": 82.79, "handbag": 89.98, "bag": 75.07, "hat": 97.13, "upper_color": 73.40, "lower_color": 69.91,
    }  # fmt: skip
    for group in scores.groups:
        assert 100 * group.strict_accuracy == pytest.approx(expected[group.name], abs=0.005), group.name


def test_perfect_predictions_reach_the_ceiling_only(shared_data: Path) -> None:
    folder = shared_data / "market1501"
    people = read_market_mat(folder / "market_attribute.mat")["test"]
    gallery = [n for n in (folder / "names_test.txt").read_text().split() if person(n) > 0]
    labels = np.array([people[person(name)] for name in gallery])
    assert 100 * score_attributes(labels, labels, labels).mean_over_groups == pytest.approx(98.77, abs=0.005)


def brute_force_group(predicted: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Balanced accuracy and macro F1, one image at a time."""
    recalls, f1s = [], []
    for value in sorted({*labels.tolist(), *predicted.tolist()}):
        true_positive = sum(1 for p, y in zip(predicted, labels, strict=True) if p == value and y == value)
        false_positive = sum(1 for p, y in zip(predicted, labels, strict=True) if p == value and y != value)
        false_negative = sum(1 for p, y in zip(predicted, labels, strict=True) if p != value and y == value)
        if true_positive + false_negative:
            recalls.append(true_positive / (true_positive + false_negative))
        f1s.append(2 * true_positive / (2 * true_positive + false_positive + false_negative))
    return sum(recalls) / len(recalls), sum(f1s) / len(f1s)


def test_group_scores_agree_with_counting_one_by_one() -> None:
    rng = np.random.default_rng(0)
    group = AttributeGroup("shoes", ("none", "boots", "sandals"))
    predicted, labels = rng.integers(0, 3, (200, 1)), rng.choice(3, (200, 1), p=[0.8, 0.15, 0.05])
    scores = score_attributes(predicted, labels, labels, (group,)).groups[0]
    balanced, macro_f1 = brute_force_group(predicted[:, 0], labels[:, 0])
    assert scores.balanced_accuracy == pytest.approx(balanced)
    assert scores.macro_f1 == pytest.approx(macro_f1)
    assert scores.majority_baseline == pytest.approx(np.mean(labels == 0))


def test_unknown_labels_do_not_count() -> None:
    group = AttributeGroup("shoes", ("none", "boots"))
    predicted = np.array([[1], [1], [0], [0]])
    labels = np.array([[1], [-1], [0], [-1]])
    scores = score_attributes(predicted, labels, labels, (group,)).groups[0]
    assert (scores.accuracy, scores.num_images) == (1.0, 2)


def test_binary_scores_by_hand() -> None:
    predicted = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]])
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0]])
    scores = score_binaries(predicted, labels, ("a", "b", "c"))
    assert scores.accuracy == pytest.approx(6 / 9)
    assert scores.mean_accuracy == pytest.approx((1.0 + (0 / 2 + 0 / 1) / 2) / 2)
    assert scores.columns_left_out == ("c",)
    assert scores.instance_accuracy == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert scores.instance_precision == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert scores.instance_recall == pytest.approx((1 / 2 + 1 + 0) / 3)


def test_junk_auc_counts_pairs() -> None:
    rng = np.random.default_rng(1)
    sums, is_person = rng.integers(0, 5, 60).astype(float), rng.random(60) < 0.7
    pairs = [(p > j) + 0.5 * (p == j) for p in sums[is_person] for j in sums[~is_person]]
    assert junk_auc(sums, is_person) == pytest.approx(np.mean(pairs))


def test_junk_auc_needs_both_kinds() -> None:
    with pytest.raises(ValueError, match="people and junk"):
        junk_auc(np.ones(3), np.array([True, True, True]))


def test_scores_of_recognition_are_those_of_the_public_code() -> None:
    rng = np.random.default_rng(42)
    labels = (rng.random((300, 9)) < np.linspace(0.05, 0.9, 9)).astype(int)
    probabilities = np.clip(0.6 * labels + 0.2 + rng.normal(0, 0.35, labels.shape), 0, 1)
    labels[:5], probabilities[3:8] = 0, 0.1  # some images without any attribute, some without any prediction
    predicted = (probabilities > 0.5).astype(int)
    scores = score_binaries(predicted, labels, list("abcdefghi"))
    # get_pedestrian_metrics of github.com/valencebond/Rethinking_of_PAR, commit 0baa462, on these arrays
    assert scores.mean_accuracy == pytest.approx(0.8092560433256069, abs=1e-12)
    instance = (scores.instance_accuracy, scores.instance_precision, scores.instance_recall, scores.instance_f1)
    public = (0.6637354497354497, 0.7845846560846561, 0.7924960317460317, 0.7885205003317725)
    assert instance == pytest.approx(public, abs=1e-12)
    # where an attribute has no positive, that code counts its true positive rate as 0; here it is left out and named
    labels[:, 0] = 0
    scores = score_binaries(predicted, labels, list("abcdefghi"))
    assert scores.columns_left_out == ("a",)
    negative_rate = 1 - predicted[:, 0].mean()
    assert scores.mean_accuracy is not None
    assert (8 * scores.mean_accuracy + negative_rate / 2) / 9 == pytest.approx(0.7574540995378474, abs=1e-12)


def test_unknown_labels_are_left_out_of_the_binary_scores() -> None:
    rng = np.random.default_rng(3)
    predicted, labels = rng.integers(0, 2, (50, 4)), rng.integers(-1, 2, (50, 4))
    scores = score_binaries(predicted, labels, list("abcd"))
    rates = []
    for column in range(4):
        known = labels[:, column] >= 0
        yes, no = (predicted[known & (labels[:, column] == value), column] for value in (1, 0))
        rates.append((yes.mean() + 1 - no.mean()) / 2)
    assert scores.mean_accuracy == pytest.approx(np.mean(rates))
    precisions = []
    for said, true in zip(predicted, labels, strict=True):
        claimed = [t for s, t in zip(said, true, strict=True) if s == 1 and t >= 0]
        precisions.append(claimed.count(1) / len(claimed) if claimed else 0.0)
    assert scores.instance_precision == pytest.approx(np.mean(precisions))
    assert scores.accuracy == pytest.approx((predicted == labels)[labels >= 0].mean())


def test_any_vocabulary_has_its_conventions() -> None:
    groups = (
        AttributeGroup("hat", ("no", "yes")),
        AttributeGroup("shoe_color", ("multicolor", "red", "blue")),
        AttributeGroup("age", ("young", "adult", "old")),
    )
    assert binary_names(groups) == ("hat", "shoe red", "shoe blue", "age young", "age adult", "age old")
    indices = np.array([[1, 0, 2], [0, 2, -1]])
    assert to_binaries(indices, groups).tolist() == [[1, 0, 0, 0, 0, 1], [0, 0, 1, -1, -1, -1]]
    scores = score_attributes(indices, indices, indices, groups).summary()
    assert list(scores["conventions"]) == ["3 groups", "6 binaries"]
    assert scores["conventions"]["6 binaries"]["accuracy"] == 1.0
    assert len(binary_names(MARKET_GROUPS)) == 30


def test_a_vocabulary_of_one_attribute_is_not_called_twelve_groups() -> None:
    hat = (AttributeGroup("hat", ("no", "yes")),)
    labels = np.array([[0], [1]])
    assert list(score_attributes(labels, labels, labels, hat).summary()["conventions"]) == ["1 group", "1 binary"]
