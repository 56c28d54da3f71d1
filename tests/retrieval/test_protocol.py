"""Images of one camera, or of unknown cameras: the protocol without the camera rule."""

from typing import Any

import numpy as np
import pytest

from reid_accel.errors import InputError
from reid_accel.retrieval.api import evaluate, top_k
from reid_accel.retrieval.features import Embeddings
from reid_accel.retrieval.protocol import MARKET, NO_CAMERA_RULE, Settings, fitting_protocol


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
