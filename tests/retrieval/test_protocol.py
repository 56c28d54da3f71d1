"""Images of one camera, or of unknown cameras: the protocol without the camera rule."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reid_accel.errors import InputError
from reid_accel.retrieval.api import evaluate, top_k
from reid_accel.retrieval.features import Embeddings
from reid_accel.retrieval.knn import NO_ROW
from reid_accel.retrieval.protocol import MARKET, NO_CAMERA_RULE, TRACKLET_RULE, Settings, fitting_protocol


def embedded(pids: list[int], cameras: list[int] | None, seed: int) -> Embeddings:
    features = np.random.default_rng(seed).normal(size=(len(pids), 3)).astype(np.float32)
    return Embeddings.of(features, pids, cameras)


@pytest.mark.parametrize(
    ("query", "gallery", "expected"),
    [
        (([1, 2], [1, 1]), ([1, 2], [2, 1]), MARKET),
        (([1, 2], [1, 1]), ([1, 2], [1, 1]), NO_CAMERA_RULE),
        (([1, 2], [1, 2]), ([1, 2, 3], [1, 2, 5]), NO_CAMERA_RULE),
        (([1, 2], [-1, -1]), ([1, 2], [-1, -1]), NO_CAMERA_RULE),
        (([1, 2], [1, 1]), ([1, 2], [-1, -1]), NO_CAMERA_RULE),
        (([1, 2], [-1, 1]), ([1, 2], [2, 2]), MARKET),
        (([1, 2], [1, 1]), ([3, 4], [2, 2]), None),
        (([1], [1]), ([0, -1], [2, 2]), None),
        (([0, -1], [1, 1]), ([0, -1], [2, 2]), None),
    ],
)
def test_the_protocol_follows_from_the_labels(query: Any, gallery: Any, expected: str | None) -> None:
    assert fitting_protocol(embedded(*query, 0), embedded(*gallery, 1)) == expected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("one_camera", [True, False])
def test_scores_without_the_camera_rule_are_those_of_brute_force(seed: int, one_camera: bool) -> None:
    rng = np.random.default_rng(seed)
    cameras = [3] * 30 if one_camera else rng.integers(0, 3, 30).tolist()
    query = embedded(rng.integers(1, 5, 7).tolist(), cameras[:7], seed)
    gallery = embedded(rng.integers(-1, 5, 30).tolist(), cameras, seed + 100)
    scores = evaluate(query, gallery, Settings(protocol=NO_CAMERA_RULE))
    kept = np.flatnonzero(gallery.pid_N != -1)
    expected = []
    for feature, pid in zip(query.embedding_SD.numpy(), query.pid_N, strict=True):
        distances = ((gallery.embedding_SD.numpy()[kept] - feature) ** 2).sum(1)
        hits = np.flatnonzero(gallery.pid_N[kept][np.argsort(distances, kind="stable")] == pid) + 1
        expected.append(np.mean(np.arange(1, len(hits) + 1) / hits) if len(hits) else np.nan)
    np.testing.assert_allclose(scores.ap_Q, expected)
    assert scores.num_gallery == len(kept)
    assert "no camera rule" in scores.stamp
    rows, _ = top_k(query, gallery, len(kept), Settings(protocol=NO_CAMERA_RULE))
    assert sorted(rows[0].tolist()) == kept.tolist()
    if not one_camera:
        assert scores.mean_ap != evaluate(query, gallery).mean_ap, "the control: the rule matters"


def test_unknown_cameras_are_refused_by_the_camera_rule_with_the_protocol_that_works() -> None:
    query, gallery = embedded([1, 2], None, 0), embedded([1, 2, 2], None, 1)
    with pytest.raises(InputError, match="use the protocol 'market1501, no camera rule'"):
        evaluate(query, gallery)
    assert evaluate(query, gallery, Settings(protocol=NO_CAMERA_RULE)).num_valid == 2


def with_tracklets(pids: list[int], cameras: list[int], tracklets: list[int], seed: int) -> Embeddings:
    return replace(embedded(pids, cameras, seed), tracklet_N=np.array(tracklets, np.int64))


@pytest.mark.parametrize(
    ("query", "gallery", "expected"),
    [
        (([1, 2], [1, 1], [5, 6]), ([1, 2], [2, 1], [5, 6]), MARKET),
        (([1, 2], [1, 1], [5, 6]), ([1, 2], [1, 1], [5, 7]), TRACKLET_RULE),
        (([1, 2], [-1, -1], [5, 6]), ([1, 2], [-1, -1], [8, 6]), TRACKLET_RULE),
        (([1, 2], [-1, -1], [5, 6]), ([1, 2], [-1, -1], [5, 6]), NO_CAMERA_RULE),
        (([1, 2], [-1, -1], [5, -1]), ([1, 2], [-1, -1], [-1, 6]), NO_CAMERA_RULE),
        (([1, 2], [-1, -1], [5, 6]), ([3, 0], [-1, -1], [8, 9]), None),
        (([0, 2], [-1, -1], [5, 6]), ([0, 2], [-1, -1], [8, 6]), NO_CAMERA_RULE),
    ],
)
def test_without_cameras_the_protocol_follows_from_tracklets(query: Any, gallery: Any, expected: str | None) -> None:
    assert fitting_protocol(with_tracklets(*query, 0), with_tracklets(*gallery, 1)) == expected


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_scores_by_the_tracklet_rule_are_those_of_brute_force(seed: int, within: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = [rng.integers(low, high, 40).tolist() for low, high in ((-1, 5), (0, 2), (-1, 6))]
    gallery = with_tracklets(*labels, seed)
    rows = rng.permutation(np.flatnonzero(gallery.pid_N > 0))[:8]
    query = (
        gallery.select(rows) if within else with_tracklets(*(np.array(one)[rows].tolist() for one in labels), seed + 9)
    )
    expected = []
    for feature, pid, tracklet, row in zip(
        query.embedding_SD.numpy(), query.pid_N, query.tracklet_N, rows, strict=True
    ):
        kept = [
            other
            for other in range(40)
            if labels[0][other] != -1
            and not (labels[0][other] == pid and tracklet != -1 and labels[2][other] == tracklet)
            and not (within and other == row)
        ]
        distances = ((gallery.embedding_SD.numpy()[kept] - feature) ** 2).sum(1)
        hits = np.flatnonzero(gallery.pid_N[kept][np.argsort(distances, kind="stable")] == pid) + 1
        expected.append(np.mean(np.arange(1, len(hits) + 1) / hits) if len(hits) else np.nan)
        found, _ = top_k(query, gallery, 40, Settings(protocol=TRACKLET_RULE))
        mine = found[len(expected) - 1]
        assert sorted(mine[mine != NO_ROW].tolist()) == kept
    scores = evaluate(query, gallery, Settings(protocol=TRACKLET_RULE))
    np.testing.assert_allclose(scores.ap_Q, expected)
    assert "protocol=market1501, tracklet rule " in scores.stamp
    assert scores.mean_ap != evaluate(query, gallery, Settings(protocol=NO_CAMERA_RULE)).mean_ap, "the rule matters"


def test_unknown_tracklets_are_refused_by_the_tracklet_rule() -> None:
    query, gallery = embedded([1, 2], None, 0), embedded([1, 2, 2], None, 1)
    with pytest.raises(InputError, match=r"tracklet rule needs .* use the protocol 'market1501, no camera rule'"):
        evaluate(query, gallery, Settings(protocol=TRACKLET_RULE))
