"""The rules on embeddings, against plain definitions and made mistakes."""

import numpy as np
import pytest

from reid_accel.doctor.embeddings import Embedded, neighbor_findings
from reid_accel.doctor.findings import Place
from reid_accel.doctor.neighbors import Neighbors, copies_across, least_similar, suspicion
from reid_accel.retrieval.features import Embeddings


def people(identities: int, images: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of people in clusters, and their person numbers."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(identities, 32))
    pids = np.repeat(np.arange(1, identities + 1), images)
    return (centers[pids - 1] + spread * rng.normal(size=(len(pids), 32))).astype(np.float32), pids


def with_wrong_labels(pids: np.ndarray, share: float) -> tuple[np.ndarray, set[int]]:
    """The labels with a share of them changed to another person's, and the changed rows."""
    rng = np.random.default_rng(1)
    rows = rng.choice(len(pids), int(share * len(pids)), replace=False)
    changed = pids.copy()
    changed[rows] = (pids[rows] + rng.integers(1, pids.max(), len(rows)) - 1) % pids.max() + 1
    return changed, set(rows.tolist())


def plain_gap(features: np.ndarray, pids: np.ndarray, row: int) -> float:
    """The definition: two most similar images of the own person against those of the most similar other person."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    similarity = unit @ unit[row]
    similarity[row] = -np.inf

    def to(pid: int) -> float:
        return float(np.sort(similarity[(pids == pid) & (np.arange(len(pids)) != row)])[::-1][:2].mean())

    return max(to(pid) for pid in np.unique(pids) if pid != pids[row]) - to(pids[row])


def test_the_gap_is_that_of_the_definition() -> None:
    features, pids = people(3, 4, 0.7)
    embeddings = Embeddings.of(features, pids)
    found = suspicion(embeddings, Neighbors.of(embeddings)).gap_N
    plain = np.array([plain_gap(features, pids, row) for row in range(len(pids))])
    np.testing.assert_allclose(found / found[0], plain / plain[0], rtol=1e-4)


def test_the_gap_is_the_same_for_features_of_another_scale() -> None:
    """ReLU features have a common part, so that all their similarities are close to 1."""
    features, pids = people(30, 8, 0.5)
    common = 20 * features.std() * np.ones(32, np.float32)
    changed, wrong = with_wrong_labels(pids, 0.03)
    for seen in (features, features + common):
        embeddings = Embeddings.of(seen, changed)
        assert set(suspicion(embeddings, Neighbors.of(embeddings)).suspects().tolist()) == wrong


def test_wrong_labels_are_found_and_right_ones_are_not() -> None:
    features, pids = people(40, 10, 0.4)
    clean = Embeddings.of(features, pids)
    assert len(suspicion(clean, Neighbors.of(clean)).suspects()) == 0
    changed, wrong = with_wrong_labels(pids, 0.02)
    embeddings = Embeddings.of(features, changed)
    found = suspicion(embeddings, Neighbors.of(embeddings))
    assert set(found.suspects().tolist()) == wrong
    assert all(pids[found.else_row_N[row]] == pids[row] for row in wrong)


def test_distractors_and_people_with_one_image_are_not_judged() -> None:
    features, pids = people(20, 6, 0.3)
    pids[pids == 2], pids[1:6] = 0, -1
    embeddings = Embeddings.of(features, pids)
    gap_N = suspicion(embeddings, Neighbors.of(embeddings)).gap_N
    assert np.isnan(gap_N[pids <= 0]).all()
    assert np.isnan(gap_N[0])
    assert not np.isnan(gap_N[pids > 2]).any()


def test_a_model_that_tells_nobody_apart_judges_nobody() -> None:
    features = np.random.default_rng(0).normal(size=(120, 16))
    embedded = Embedded(
        tuple(Place("train", row) for row in range(120)), Embeddings.of(features, np.repeat(np.arange(1, 31), 4))
    )
    keys = {finding.key for finding in neighbor_findings(embedded)}
    assert "labels-not-judged" in keys
    assert "probable-label-errors" not in keys


def test_a_training_image_among_the_test_images_is_found() -> None:
    features, pids = people(30, 8, 0.4)
    is_train_N = pids <= 20
    near = features[3] + 0.02 * np.random.default_rng(2).normal(size=32)
    embeddings = Embeddings.of(np.concatenate([features, near[None]]), [*pids, 99])
    neighbors = Neighbors.of(embeddings)
    pairs = copies_across(np.append(is_train_N, False), neighbors)
    assert pairs.tolist() == [[len(pids), 3]]
    without = Embeddings.of(features, pids)
    assert len(copies_across(is_train_N, Neighbors.of(without))) == 0


def test_the_image_that_is_least_like_any_other_is_first() -> None:
    features, pids = people(10, 12, 0.2)
    features[17] = np.random.default_rng(3).normal(size=32)
    assert least_similar(Neighbors.of(Embeddings.of(features, pids)), 3)[0] == 17


def test_more_copies_than_neighbors_leave_each_image_out_of_its_own_list() -> None:
    embeddings = Embeddings.of(np.ones((50, 4)), np.ones(50, np.int64))
    row_NK = Neighbors.of(embeddings).row_NK
    assert row_NK.shape == (50, 20)
    assert not (row_NK == np.arange(50)[:, None]).any()


@pytest.mark.parametrize("split", ["train", "query"])
def test_only_training_images_are_left_out_for_their_labels(split: str) -> None:
    features, pids = people(40, 10, 0.4)
    changed, wrong = with_wrong_labels(pids, 0.02)
    places = tuple(Place(split, row) for row in range(len(pids)))
    findings = {f.key: f for f in neighbor_findings(Embedded(places, Embeddings.of(features, changed)))}
    found = findings["probable-label-errors"]
    assert {images[0].row for images in found.together} == wrong
    assert len(found.left_out) == (len(wrong) if split == "train" else 0)
