"""Alpha query expansion: by hand, and inside the scores."""

import numpy as np
import pytest
import torch
from helpers.plain_arrays import evaluate

from reid_accel.errors import InputError
from reid_accel.retrieval.expansion import AlphaExpansion, expanded_queries


def test_a_neighbor_weighs_its_cosine_to_the_power_of_alpha():
    query = torch.tensor([[2.0, 0.0]])
    neighbors = torch.tensor([[[3.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]]])
    weight = np.sqrt(0.5) ** 3
    total = np.array([2 + 3 + weight, weight])  # the opposite one and the missing one weigh nothing
    expected = 2 * total / np.linalg.norm(total)
    np.testing.assert_allclose(expanded_queries(query, neighbors, 3.0)[0], expected, rtol=1e-6)
    without = total - [2, 0]
    np.testing.assert_allclose(
        expanded_queries(query, neighbors, 3.0, include_query=False)[0],
        2 * without / np.linalg.norm(without),
        rtol=1e-6,
    )


def test_alpha_zero_is_the_plain_average():
    query, neighbors = torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.0, 1.0], [1.0, 1.0]]])
    expected = np.array([2.0, 2.0]) / np.sqrt(8)
    np.testing.assert_allclose(expanded_queries(query, neighbors, 0.0)[0], expected, rtol=1e-6)


def test_a_query_without_a_usable_neighbor_stays_as_it_is():
    query = torch.tensor([[1.0, 0.0]])
    for neighbor in ([-1.0, 0.0], [0.0, 0.0]):
        assert expanded_queries(query, torch.tensor([[neighbor]]), 3.0, include_query=False).equal(query)


def test_scores_with_expansion_are_those_of_the_expanded_queries():
    rng = np.random.default_rng(0)
    query, gallery = (rng.standard_normal((n, 6)).astype(np.float32) for n in (7, 50))
    labels = np.arange(7) % 3 + 1, rng.integers(-1, 4, 50), np.zeros(7, int), np.ones(50, int)
    kept = gallery[labels[1] != -1]
    unit_query, unit_kept = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, kept))
    nearest = (-unit_query @ unit_kept.T).argsort(1)[:, :4]
    by_hand = expanded_queries(torch.from_numpy(query), torch.from_numpy(kept[nearest]), 2.0)
    scores = evaluate(query, gallery, *labels, query_expansion=AlphaExpansion(4, 2.0))
    assert scores.ap_Q.tolist() == evaluate(by_hand, gallery, *labels).ap_Q.tolist()
    assert scores.query_expansion == "alpha-qe(k=4,alpha=2)"
    assert scores.summary()["query_expansion"] in scores.stamp


def test_course_strict_does_not_expand_a_query_with_itself():
    gallery = np.array([[1.0, 0.0], [0.9, 0.5], [0.2, 1.0], [0.0, 1.0]], np.float32)
    options = {"protocol": "course-strict", "query_rows": [0], "query_expansion": AlphaExpansion(1)}
    scores = evaluate(gallery[:1], gallery, [1], [1, 2, 1, 3], **options)
    by_hand = expanded_queries(torch.from_numpy(gallery[:1]), torch.from_numpy(gallery[None, 1:2]), 3.0)
    expected = evaluate(by_hand, gallery, [1], [1, 2, 1, 3], protocol="course-strict", query_rows=[0])
    assert scores.ap_Q.tolist() == expected.ap_Q.tolist()


def test_impossible_settings_are_refused():
    with pytest.raises(InputError, match=r"query_expansion\.k must be a positive integer"):
        AlphaExpansion(k=0)
    with pytest.raises(InputError, match=r"query_expansion\.alpha must be a number of at least 0"):
        AlphaExpansion(alpha=-1)
    gallery = np.eye(3, dtype=np.float32)
    with pytest.raises(InputError, match=r"query_expansion\.k must be at most the gallery's 2 rows, got 3"):
        evaluate(gallery[:1], gallery, [1], [1, 1, -1], [0], [1, 1, 1], query_expansion=AlphaExpansion(3))
