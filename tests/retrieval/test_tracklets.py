"""Tracklets as rows: pooling against plain definitions, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reid_accel.errors import InputError
from reid_accel.retrieval import tracklets as module
from reid_accel.retrieval.features import Embeddings
from reid_accel.retrieval.tracklets import Tracklets, find_tracklets, medoid, pool_tracklet, pooled


def tracked(num_images=60, num_tracklets=13, seed=0):
    """Images of tracklets in no order, some of none; each tracklet is one person seen by one camera."""
    rng = np.random.default_rng(seed)
    tracklet_N = rng.integers(-1, num_tracklets, num_images)
    alone = np.where(tracklet_N < 0, np.arange(num_images) + 100, tracklet_N)
    images = Embeddings.of(
        rng.standard_normal((num_images, 6)),
        pids=alone % 5 + 1,
        cameras=alone % 3,
        names=[f"{row}.jpg" for row in range(num_images)],
        tracklets=tracklet_N,
    )
    return replace(images, quality_N=rng.random(num_images).astype(np.float32))


def plain_groups(tracklet_N):
    """The rows of each tracklet by a loop."""
    groups = {}
    for row, number in enumerate(tracklet_N.tolist()):
        groups.setdefault(number if number >= 0 else ("alone", row), []).append(row)
    return list(groups.values())


def plain_pooling(features, weights, how, metric):
    if metric == "cosine":
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
    if how == "medoid":
        sums = [sum(np.linalg.norm(one - other) for other in features) for one in features]
        return features[int(np.argmin(sums))]
    weights = weights if how == "quality" else np.ones(len(features))
    mean = sum(weight * feature for weight, feature in zip(weights, features, strict=True)) / weights.sum()
    return mean / np.linalg.norm(mean) if metric == "cosine" else mean


def test_images_are_grouped_in_the_order_of_first_images():
    images = tracked()
    found = Tracklets.of(images.tracklet_N)
    rows = np.split(found.row_N, found.start_K1[1:-1])
    assert [part.tolist() for part in rows] == plain_groups(images.tracklet_N)
    assert found.size_K.sum() == 60
    assert len(Tracklets.of(np.empty(0, np.int64))) == 0


@pytest.mark.parametrize("how", ["mean", "quality", "medoid"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_tracklet_is_what_its_definition_says(how, metric, monkeypatch):
    monkeypatch.setattr(module, "IMAGES_AT_ONCE", 7)
    images = tracked()
    rows = pooled(images, find_tracklets(images, "gallery"), how, metric)
    groups = plain_groups(images.tracklet_N)
    features, weights = images.embedding_SD.double().numpy(), images.quality_N.astype(float)
    expected = [plain_pooling(features[group], weights[group], how, metric) for group in groups]
    assert np.allclose(rows.embedding_SD.numpy(), expected, atol=1e-6)
    assert rows.embedding_SD.dtype == torch.float32
    assert rows.name_N == tuple(images.name_N[group[0]] for group in groups)
    for name in ("pid_N", "camera_N", "tracklet_N"):
        assert getattr(rows, name).tolist() == [getattr(images, name)[group[0]] for group in groups]


def test_poolings_differ():
    images = tracked()
    found = find_tracklets(images, "gallery")
    mean, quality, middle = (
        pooled(images, found, how, "euclidean").embedding_SD for how in ("mean", "quality", "medoid")
    )
    assert not torch.allclose(mean, quality)
    assert not torch.allclose(mean, middle)


def test_order_and_blocks_do_not_change_a_bit(monkeypatch):
    images = tracked()
    found = find_tracklets(images, "gallery")
    at_once = pooled(images, found, "quality", "cosine").embedding_SD
    monkeypatch.setattr(module, "IMAGES_AT_ONCE", 1)
    assert pooled(images, found, "quality", "cosine").embedding_SD.equal(at_once)


def test_one_image_is_its_own_tracklet():
    feature = torch.tensor([[0.1, 0.7]])
    assert pool_tracklet(feature)[None].equal(feature)
    assert pool_tracklet(feature, torch.tensor([0.3]))[None].equal(feature)
    assert medoid(feature) == 0
    assert medoid(torch.tensor([[1.0], [1.0], [1.0]])) == 0


def test_a_low_weight_counts_little_and_none_at_all_counts_alike():
    features = torch.eye(2)
    assert pool_tracklet(features, torch.tensor([1.0, 0.0])).tolist() == [1, 0]
    assert pool_tracklet(features, torch.zeros(2)).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([1.0], "weights has shape"),
        ([1.0, -1.0], "finite and 0 or more"),
        ([1.0, np.nan], "finite and 0 or more"),
    ],
)
def test_wrong_weights_are_refused(weights, sentence):
    with pytest.raises(InputError, match=sentence):
        pool_tracklet(torch.eye(2), np.array(weights))


def test_a_tracklet_without_images_is_refused():
    for work in (pool_tracklet, medoid):
        with pytest.raises(InputError, match="one feature per image"):
            work(torch.empty(0, 3))


def test_a_set_without_tracklets_is_refused():
    with pytest.raises(InputError, match="no image of query has one"):
        find_tracklets(Embeddings.of(np.eye(2)), "query")


@pytest.mark.parametrize(("label", "what"), [("pid_N", "persons, 1"), ("camera_N", "cameras, 0")])
def test_a_tracklet_of_two_people_or_cameras_is_named(label, what):
    images = Embeddings.of(
        np.eye(4), pids=[2, 1, 1, 1], cameras=[0, 0, 0, 0], names=list("abcd"), tracklets=[-1, 40, 8, 40]
    )
    wrong = getattr(images, label).copy()
    wrong[3] = 9
    sentence = rf"tracklet 40 of gallery has images of two {what} \(b\) and 9 \(d\)"
    with pytest.raises(InputError, match=sentence):
        find_tracklets(replace(images, **{label: wrong}), "gallery")


def test_quality_that_is_not_known_is_refused():
    images = replace(tracked(), quality_N=None)
    with pytest.raises(InputError, match="use mean or medoid"):
        pooled(images, find_tracklets(images, "gallery"), "quality", "cosine")
