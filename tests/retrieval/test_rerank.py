"""k-reciprocal re-ranking against the paper's definition, written plainly on whole matrices."""

import numpy as np
import pytest
import torch
from helpers.plain_arrays import evaluate
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_accel.errors import InputError
from reid_accel.retrieval.rerank import KReciprocal, find_neighbors, reciprocal_sets, reranked_panels


def reranked(query, gallery, rerank, metric="euclidean", chunk_bytes=2**20):
    panels = reranked_panels(
        torch.from_numpy(query), torch.from_numpy(gallery), rerank, metric=metric, chunk_bytes=chunk_bytes
    )
    return torch.cat([panel.clone() for _, panel in panels]).numpy()


def plain_reranked(query, gallery, rerank):
    """Zhong et al., CVPR 2017, with sets as sets and matrices as dense matrices."""
    union = np.concatenate([query, gallery]).astype(np.float64)
    distance = np.square(union[:, None] - union[None]).sum(2)
    distance = distance / distance.max(1, keepdims=True)
    nearest = distance.argsort(1, kind="stable")

    def reciprocal(i, k):
        return {j for j in nearest[i, : k + 1] if i in nearest[j, : k + 1]}

    encoding = np.zeros_like(distance)
    for i in range(len(union)):
        members = reciprocal(i, rerank.k1)
        joined = set(members)
        for candidate in members:
            half = reciprocal(candidate, round(rerank.k1 / 2))
            if 3 * len(half & members) > 2 * len(half):
                joined |= half
        joined = sorted(joined)
        weight = np.exp(-distance[i, joined])
        encoding[i, joined] = weight / weight.sum()
    encoding = np.stack([encoding[nearest[i, : rerank.k2]].mean(0) for i in range(len(union))])
    own, others = encoding[: len(query)], encoding[len(query) :]
    shared = np.minimum(own[:, None], others[None]).sum(2)
    jaccard = 1 - shared / (2 - shared)
    return (1 - rerank.lambda_value) * jaccard + rerank.lambda_value * distance[: len(query), len(query) :]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 8),
    st.integers(2, 40),
    st.integers(1, 12),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([1, 2**20]),
)
def test_final_distances_equal_the_plain_definition(seed, queries, rows, k1, k2, lambda_value, chunk_bytes):
    rng = np.random.default_rng(seed)
    query, gallery = (rng.standard_normal((n, 5)).astype(np.float32) for n in (queries, rows))
    rerank = KReciprocal(k1, min(k2, k1 + 1), lambda_value)
    expected = plain_reranked(query, gallery, rerank)
    np.testing.assert_allclose(reranked(query, gallery, rerank, chunk_bytes=chunk_bytes), expected, atol=1e-5)


def test_reciprocal_sets_by_hand():
    # 0 and 1 are close, 2 is 1's side, 3 is far: with k1 = 1, 2's nearest is 1, but 1's nearest is 0
    position = torch.tensor([[0.0], [1.0], [2.5], [50.0]])
    sets = reciprocal_sets(find_neighbors(position, 2, 2**20).column_NK, 1).toarray() > 0
    np.testing.assert_array_equal(sets, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def test_neighbors_are_not_reordered_by_building_the_sets():
    rng = np.random.default_rng(0)
    neighbors = find_neighbors(torch.from_numpy(rng.standard_normal((30, 4)).astype(np.float32)), 7, 2**20)
    before = neighbors.column_NK.copy()
    reciprocal_sets(neighbors.column_NK, 6)
    np.testing.assert_array_equal(neighbors.column_NK, before)


def test_an_image_is_its_own_nearest_even_among_equals():
    column_NK = find_neighbors(torch.ones(4, 2).cumsum(0)[[0, 0, 1, 2]], 2, 2**20).column_NK
    assert all(row in column_NK[row] for row in range(4))


def test_cosine_re_ranks_directions():
    rng = np.random.default_rng(1)
    query, gallery = (rng.standard_normal((n, 6)).astype(np.float32) for n in (4, 25))
    unit_query, unit_gallery = (
        features / np.linalg.norm(features, axis=1, keepdims=True) for features in (query, gallery)
    )
    expected = reranked(unit_query, unit_gallery, KReciprocal(5, 3))
    np.testing.assert_allclose(reranked(query, gallery, KReciprocal(5, 3), "cosine"), expected, atol=1e-5)


def test_scores_are_those_of_the_re_ranked_distances_without_junk():
    rng = np.random.default_rng(2)
    query, gallery = (rng.standard_normal((n, 4)).astype(np.float32) for n in (6, 60))
    query_pids, gallery_pids = np.arange(6) + 1, rng.integers(-1, 7, 60)
    cameras = np.zeros(6, int), np.ones(60, int)
    rerank = KReciprocal(8, 3, 0.3)
    scores = evaluate(query, gallery, query_pids, gallery_pids, *cameras, rerank=rerank)
    kept = gallery_pids != -1
    first_ranks = []
    for pid, distances in zip(query_pids, plain_reranked(query, gallery[kept], rerank), strict=True):
        hits = gallery_pids[kept][distances.argsort(kind="stable")] == pid
        first_ranks.append(hits.argmax() + 1 if hits.any() else 0)
    assert scores.first_rank_Q.tolist() == first_ranks
    assert scores.num_gallery == kept.sum()
    assert scores.rerank == "k-reciprocal(k1=8,k2=3,lambda=0.3)"
    assert "rerank=k-reciprocal(k1=8,k2=3,lambda=0.3)" in scores.stamp


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"k1": 0}, "rerank.k1 must be a positive integer"),
        ({"k2": 22}, "rerank.k2 must be at most k1"),
        ({"lambda_value": 1.5}, "rerank.lambda_value must be between 0 and 1"),
    ],
)
def test_impossible_settings_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        KReciprocal(**settings)


def test_a_set_of_one_point_is_refused():
    with pytest.raises(InputError, match="features that differ"):
        reranked(np.ones((1, 2), np.float32), np.ones((3, 2), np.float32), KReciprocal(2, 1))
