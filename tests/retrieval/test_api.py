"""Scores and rank lists against hand-written cases and against a slow, plain definition of every protocol."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers.plain_arrays import evaluate, top_k
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_accel.errors import InputError
from reid_accel.retrieval import hit_ranks
from reid_accel.retrieval.api import top_k as top_k_of
from reid_accel.retrieval.features import Embeddings
from reid_accel.retrieval.protocol import Settings
from reid_accel.retrieval.rerank import KReciprocal


def points(*positions):
    """Features on a line: the distance of two of them is their difference."""
    return np.array(positions, dtype=np.float32)[:, None]


# ---------------------------------------------------------------- the plain definition


@dataclass
class Plain:
    ap: list
    first_rank: list
    inp: list
    tpr: dict


def plain_scores(distance_QG, query_pids, gallery_pids, query_cameras, gallery_cameras, query_rows, protocol, ap):
    """The protocols, word by word, on a whole matrix of distances."""
    aps, first_ranks, inps, right, wrong = [], [], [], [], []
    for q, distances in enumerate(distance_QG):
        hits, position, pairs = [], 0, []
        for g in sorted(range(len(distances)), key=lambda g: (distances[g], g)):
            same = gallery_pids[g] == query_pids[q]
            if protocol == "market1501" and gallery_pids[g] == -1:
                continue
            if protocol == "market1501" and same and gallery_cameras[g] == query_cameras[q]:
                continue
            if protocol == "course-strict" and g == query_rows[q]:
                continue
            position += 1
            pairs.append((same, distances[g]))
            if same:
                hits.append(position)
        if not hits:
            aps.append(None), first_ranks.append(0), inps.append(None)
            continue
        terms = []
        for k, rank in enumerate(hits, start=1):
            before = 1.0 if rank == 1 else (k - 1) / (rank - 1)
            terms.append(k / rank if ap == "standard" else (k / rank + before) / 2)
        aps.append(sum(terms) / len(hits)), first_ranks.append(hits[0]), inps.append(len(hits) / hits[-1])
        right += [d for same, d in pairs if same]
        wrong += [d for same, d in pairs if not same]
    return Plain(aps, first_ranks, inps, plain_tpr(right, wrong))


def plain_tpr(right, wrong):
    """The best TPR of any threshold whose FPR is within the rate."""
    tpr = {}
    if not right:
        return tpr
    for rate, one_in in (("1e-4", 10_000), ("1e-3", 1_000), ("1e-2", 100)):
        thresholds = [-1.0, *right]
        allowed = [t for t in thresholds if sum(d <= t for d in wrong) * one_in <= len(wrong)]
        tpr[rate] = max(sum(d <= t for d in right) for t in allowed) / len(right)
    return tpr


def assert_equals_plain(scores, plain):
    counted = [ap for ap in plain.ap if ap is not None]
    assert scores.num_queries == len(plain.ap)
    assert scores.num_valid == len(counted)
    assert scores.num_left_out == len(plain.ap) - len(counted)
    assert scores.first_rank_Q.tolist() == plain.first_rank
    np.testing.assert_allclose(scores.ap_Q, np.array(plain.ap, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(scores.inp_Q, np.array(plain.inp, dtype=float), rtol=1e-12)
    assert scores.mean_ap == pytest.approx(np.mean(counted), rel=1e-12)
    firsts = [rank for rank in plain.first_rank if rank]
    for rank, share in scores.cmc.items():
        assert share == pytest.approx(np.mean([first <= rank for first in firsts]), rel=1e-12)
    assert scores.tpr_at_fpr == pytest.approx(plain.tpr, rel=1e-12)


@st.composite
def problems(draw, max_pid=5):
    """Integer features (exact distances, many ties), junk, distractors, few cameras, small tiles and panels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_queries, num_gallery = draw(st.integers(1, 6)), draw(st.integers(1, 40))
    spread, num_cameras = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    lowest = draw(st.sampled_from([-1, 0, 1]))
    return {
        "query": rng.integers(-spread, spread + 1, (num_queries, 2)).astype(np.float32),
        "gallery": rng.integers(-spread, spread + 1, (num_gallery, 2)).astype(np.float32),
        "labels": (
            rng.integers(1, max_pid + 1, num_queries),
            rng.integers(lowest, max_pid + 1, num_gallery),
            rng.integers(0, num_cameras, num_queries),
            rng.integers(0, num_cameras, num_gallery),
        ),
        "options": {
            "gallery_block": draw(st.sampled_from([4, 16, 1024])),
            "chunk_bytes": draw(st.sampled_from([1, 500, 2**20])),
            "average_precision": draw(st.sampled_from(["standard", "trapezoid"])),
            "cmc_at": (1, 2, 5, 50),
        },
    }


def check_against_plain(problem, protocol, query_rows=None):
    distance_QG = np.square(problem["query"][:, None] - problem["gallery"][None]).sum(2)
    plain = plain_scores(distance_QG, *problem["labels"], query_rows, protocol, problem["options"]["average_precision"])
    arguments = (problem["query"], problem["gallery"], *problem["labels"])
    if all(ap is None for ap in plain.ap):
        with pytest.raises(InputError, match="no query has a match"):
            evaluate(*arguments, protocol=protocol, query_rows=query_rows, **problem["options"])
        return
    scores = evaluate(*arguments, protocol=protocol, query_rows=query_rows, **problem["options"])
    assert_equals_plain(scores, plain)
    assert "NaN" not in json.dumps(scores.summary())


@settings(max_examples=200, deadline=None)
@given(problems())
def test_market1501_scores_equal_the_plain_definition(problem):
    check_against_plain(problem, "market1501")


@settings(max_examples=60, deadline=None)
@given(problems())
def test_course_scores_equal_the_plain_definition(problem):
    check_against_plain(problem, "course")


@settings(max_examples=100, deadline=None)
@given(problems(), st.randoms(use_true_random=False))
def test_course_strict_scores_equal_the_plain_definition(problem, random):
    gallery_pids = np.maximum(problem["labels"][1], 1)
    rows = np.array(random.sample(range(len(gallery_pids)), min(len(problem["query"]), len(gallery_pids))))
    queries = problem["gallery"][rows]
    labels = (gallery_pids[rows], gallery_pids, problem["labels"][3][rows], problem["labels"][3])
    check_against_plain(problem | {"query": queries, "labels": labels}, "course-strict", rows)


@settings(max_examples=60, deadline=None)
@given(problems(), st.integers(1, 40), st.booleans())
def test_rank_lists_equal_a_stable_sort(problem, k, junk_rules):
    query, gallery = problem["query"], problem["gallery"]
    query_pids, gallery_pids, query_cameras, gallery_cameras = problem["labels"]
    k = min(k, len(gallery))
    distance_QG = np.square(query[:, None] - gallery[None]).sum(2)
    labels = (None,) * 4
    if junk_rules:
        again = (gallery_pids == query_pids[:, None]) & (gallery_cameras == query_cameras[:, None])
        distance_QG[again | (gallery_pids == -1)] = np.inf
        labels = problem["labels"]
    options = {name: problem["options"][name] for name in ("gallery_block", "chunk_bytes")}
    rows, distances = top_k(query, gallery, k, labels=labels, **options)
    expected = distance_QG.argsort(1, kind="stable")[:, :k]
    near = np.take_along_axis(distance_QG, expected, 1)
    np.testing.assert_array_equal(rows, np.where(np.isinf(near), -1, expected))
    np.testing.assert_array_equal(distances, np.sqrt(near))


@settings(max_examples=40, deadline=None)
@given(problems())
def test_counting_on_a_device_equals_counting_on_the_cpu(problem):
    arguments = (problem["query"], problem["gallery"], *problem["labels"])
    with pytest.MonkeyPatch.context() as patch:
        try:
            by_row = evaluate(*arguments, **problem["options"])
        except InputError:
            return
        patch.setattr(hit_ranks, "count_rows", hit_ranks.count_sorted)
        assert evaluate(*arguments, **problem["options"]).summary() == by_row.summary()


# ---------------------------------------------------------------- hand-written cases


def test_average_precision_by_hand():
    # ranks of the two hits: 2 and 3
    arguments = (points(0), points(3, 1, 2, 9), [1], [1, 2, 1, 3], [0], [1, 1, 1, 1])
    scores = evaluate(*arguments)
    assert scores.ap_Q[0] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert scores.inp_Q[0] == pytest.approx(2 / 3)
    assert scores.first_rank_Q[0] == 2
    trapezoid = evaluate(*arguments, average_precision="trapezoid")
    assert trapezoid.ap_Q[0] == pytest.approx(((1 / 2 + 0) / 2 + (2 / 3 + 1 / 2) / 2) / 2)


def test_same_camera_matches_are_ignored():
    scores = evaluate(points(0), points(1, 2, 3), [1], [1, 2, 1], [0], [0, 0, 1])
    assert scores.first_rank_Q[0] == 2  # behind the stranger, the own camera's row gone


def test_junk_is_dropped_and_distractors_stay():
    scores = evaluate(points(0), points(1, 2, 3), [1], [-1, 0, 1], [0], [1, 1, 1])
    assert scores.first_rank_Q[0] == 2
    assert scores.num_gallery == 2


def test_equal_distances_are_ordered_by_gallery_row():
    ranks = []
    for row in range(3):
        pids = [2, 2, 2]
        pids[row] = 1
        scores = evaluate(points(0), points(1, -1, 1), [1], pids, [0], [1, 1, 1], gallery_block=1)
        ranks.append(scores.first_rank_Q[0])
    assert ranks == [1, 2, 3]


def test_the_course_keeps_the_query_and_course_strict_removes_it():
    gallery, pids = points(0, 1, 2), [1, 2, 1]
    kept = evaluate(gallery[:1], gallery, pids[:1], pids, protocol="course", query_rows=[0])
    strict = evaluate(gallery[:1], gallery, pids[:1], pids, protocol="course-strict", query_rows=[0])
    assert kept.mean_ap == pytest.approx((1 + 2 / 3) / 2)
    assert strict.mean_ap == pytest.approx(1 / 2)
    assert kept.stamp != strict.stamp


def test_queries_without_a_match_are_left_out_and_counted():
    scores = evaluate(points(0, 0), points(1, 2), [1, 7], [1, 2], [0, 0], [1, 1])
    assert (scores.num_queries, scores.num_valid, scores.num_left_out) == (2, 1, 1)
    assert scores.mean_ap == 1.0
    assert np.isnan(scores.ap_Q[1])
    assert scores.first_rank_Q.tolist() == [1, 0]


def test_cmc_is_monotone_when_a_query_keeps_fewer_rows_than_the_largest_rank():
    # the first query keeps two rows, the second all five
    scores = evaluate(
        points(0, 0), points(1, 2, 3, 4, 5), [1, 2], [1, 1, 1, 2, 1], [0, 0], [0, 0, 0, 1, 1], cmc_at=(1, 2, 4, 9)
    )
    assert scores.cmc == {1: 0.0, 2: 0.5, 4: 1.0, 9: 1.0}


def test_tpr_at_fpr_by_hand():
    # 300 wrong pairs: 3 may be accepted at 1e-2, none at 1e-3; the hits lie behind 0, 3 and 4 of them
    wrong = np.arange(1, 301, dtype=np.float32)
    gallery = np.concatenate([[0.5, 3.5, 4.5], wrong])[:, None].astype(np.float32)
    scores = evaluate(points(0), gallery, [1], [1] * 3 + [2] * 300, [0], [1] * 303)
    assert scores.tpr_at_fpr == pytest.approx({"1e-4": 1 / 3, "1e-3": 1 / 3, "1e-2": 2 / 3})


def test_tpr_at_fpr_is_exact_when_far_pairs_are_forgotten_on_the_way(monkeypatch):
    rng = np.random.default_rng(3)
    query, gallery = rng.integers(-50, 50, (40, 2)), rng.integers(-50, 50, (300, 2))
    labels = rng.integers(1, 20, 40), rng.integers(1, 20, 300), np.zeros(40, int), rng.integers(0, 3, 300)
    distance_QG = np.square(query[:, None] - gallery[None]).sum(2)
    plain = plain_scores(distance_QG, *labels, None, "market1501", "standard")
    monkeypatch.setattr(hit_ranks, "ROOM", 1)
    for panel_bytes in (1, 2**20):
        scores = evaluate(query.astype(float), gallery.astype(float), *labels, chunk_bytes=panel_bytes)
        assert_equals_plain(scores, plain)


def test_cosine_ignores_lengths():
    query, gallery = np.array([[1.0, 0.0]]), np.array([[9.0, 1.0], [0.1, 0.1], [0.0, 5.0]])
    rows, distances = top_k(query, gallery, 3, metric="cosine")
    assert rows.tolist() == [[0, 1, 2]]
    np.testing.assert_allclose(distances, [[1 - 9 / np.sqrt(82), 1 - np.sqrt(0.5), 1.0]], atol=1e-6)
    assert top_k(query, gallery, 3)[0].tolist() == [[1, 2, 0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_computed_in_float32(dtype):
    rng = np.random.default_rng(0)
    query, gallery = (torch.from_numpy(rng.standard_normal((n, 8))).to(dtype) for n in (5, 30))
    labels = (torch.arange(5) + 1, torch.arange(30) % 5 + 1, torch.zeros(5).long(), torch.ones(30).long())
    scores = evaluate(query, gallery, *labels)
    assert scores.summary() == evaluate(query.float(), gallery.float(), *labels).summary()


def test_the_precision_that_training_set_is_not_used():
    rng = np.random.default_rng(1)
    query, gallery = (torch.from_numpy(rng.standard_normal((n, 64)).astype(np.float32)) for n in (4, 50))
    plain = top_k(query, gallery, 50)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            fast = top_k(query, gallery, 50)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(plain[1], fast[1])


def test_ranking_leaves_the_precision_of_gpus_and_cpus_as_it_was():
    matmul, features = torch.backends.cuda.matmul, Embeddings.of(torch.eye(3))
    matmul.allow_tf32 = True
    try:
        top_k_of(features, features, 1)
        assert matmul.allow_tf32
    finally:
        matmul.allow_tf32 = False
    assert torch.get_float32_matmul_precision() == "highest", "torch refuses to tell a mixture"


def test_float_features_are_ranked_as_by_double_precision():
    rng = np.random.default_rng(2)
    query, gallery = rng.standard_normal((9, 16)), rng.standard_normal((400, 16))
    distance_QG = np.square(query[:, None] - gallery[None]).sum(2)
    pids = rng.integers(1, 20, 9), rng.integers(0, 20, 400)
    cameras = rng.integers(0, 3, 9), rng.integers(0, 3, 400)
    plain = plain_scores(distance_QG, *pids, *cameras, None, "market1501", "standard")
    scores = evaluate(query, gallery, *pids, *cameras, chunk_bytes=8000)
    np.testing.assert_allclose(scores.mean_ap, np.mean(plain.ap), rtol=1e-6)


def test_nothing_is_written_into_the_arguments():
    query, gallery = points(1, 2), points(1, 2, 3)
    labels = np.array([1, 2]), np.array([1, 2, 1]), np.array([0, 0]), np.array([1, 1, 1])
    before = [array.copy() for array in (query, gallery, *labels)]
    evaluate(query, gallery, *labels)
    top_k(query, gallery, 2, metric="cosine")
    for old, new in zip(before, (query, gallery, *labels), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.filterwarnings("error")
def test_read_only_and_reversed_arrays_are_fine():
    query, gallery = points(0, 1), points(1, 2, 3)
    gallery.setflags(write=False)
    assert top_k(query[::-1], gallery[::-1], 2)[0].tolist() == [[2, 1], [2, 1]]


# ---------------------------------------------------------------- mistakes

GOOD = {
    "query_features": points(0, 1),
    "gallery_features": points(1, 2, 3),
    "query_pids": [1, 2],
    "gallery_pids": [1, 2, 1],
    "query_cameras": [0, 0],
    "gallery_cameras": [1, 1, 1],
}
NO_MATCH = r"no query has a match in the gallery under protocol market1501.*under another camera"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"gallery_features": points(1, np.nan, 3)}, "gallery_features row 1 contains NaN or infinity"),
        ({"query_features": points(0, np.inf)}, "query_features row 1 contains NaN or infinity"),
        ({"gallery_features": points(1, 2, 1e25)}, "gallery_features row 2 is too large"),
        ({"gallery_features": points(0, 2, 3), "metric": "cosine"}, "gallery_features row 0 is all zeros"),
        ({"query_features": points(0, 1), "metric": "cosine"}, "query_features row 0 is all zeros"),
        ({"query_pids": [1]}, r"pids has shape \(1,\), but features has 2 rows"),
        ({"gallery_cameras": [1, 1]}, r"cameras has shape \(2,\), but features has 3 rows"),
        ({"query_features": np.zeros((2, 0))}, "features have dimension 0"),
        ({"query_features": np.zeros((2, 2))}, "query_features have dimension 2, gallery_features 1"),
        ({"query_features": np.zeros(2)}, "features must be a matrix"),
        ({"query_features": torch.zeros((2, 1), dtype=torch.int64)}, "features must be floating-point numbers"),
        ({"query_features": np.zeros((2, 1), dtype=int)}, "features must be floating-point numbers"),
        ({"query_features": points(), "query_pids": [], "query_cameras": []}, "query_features has no rows"),
        ({"gallery_features": points(), "gallery_pids": [], "gallery_cameras": []}, "the gallery is empty"),
        ({"query_pids": [0, 1]}, "query_pids row 0 is 0: a query needs a person number above 0"),
        ({"query_pids": [1.5, 2.0]}, "pids must be integers"),
        ({"query_pids": [7, 8]}, NO_MATCH),
        ({"gallery_cameras": [0, 0, 0]}, NO_MATCH),
        ({"query_cameras": None}, "needs the pids and cameras of queries and gallery"),
        ({"chunk_bytes": -1}, "chunk_bytes must be a positive integer, got -1"),
        ({"gallery_block": 0}, "gallery_block must be a positive integer"),
        ({"cmc_at": (0,)}, "cmc_at must be a positive integer"),
        ({"metric": "manhattan"}, "metric must be one of euclidean, cosine"),
        (
            {"protocol": "market"},
            "one of market1501, 'market1501, tracklet rule', 'market1501, no camera rule', course, .* got 'market'",
        ),
        ({"average_precision": "11-point"}, "average_precision must be one of standard, trapezoid"),
        ({"protocol": "course-strict"}, "needs the gallery row of each query"),
        ({"protocol": "course-strict", "query_rows": [0, 3]}, "names gallery row 3 for query 1"),
        ({"protocol": "course-strict", "query_rows": [1, 1]}, "source_rows names gallery row 1 twice"),
        ({"protocol": "course-strict", "query_rows": [1, 0]}, "query 0 has pid 1, but its gallery row 1 has pid 2"),
    ],
)
def test_bad_input_is_named_in_a_sentence(change, sentence):
    evaluate(**GOOD)
    with pytest.raises(InputError, match=sentence):
        evaluate(**(GOOD | change))


@pytest.mark.parametrize(
    ("k", "options", "sentence"),
    [
        (4, {}, "k must be at most the gallery's 3 rows, got 4"),
        (0, {}, "k must be a positive integer, got 0"),
        (1, {"protocol": "market1501"}, "needs the pids and cameras of queries and gallery"),
        (1, {"protocol": "course-strict"}, "needs the gallery row of each query"),
        (1, {"rerank": KReciprocal()}, "neither re-ranked nor expanded"),
        (1, {"chunk_bytes": 0}, "chunk_bytes must be a positive integer"),
    ],
)
def test_bad_arguments_of_rank_lists_are_named(k, options, sentence):
    with pytest.raises(InputError, match=sentence):
        top_k(points(0, 1), points(1, 2, 3), k, **options)


def test_rank_lists_of_selected_queries_leave_the_queries_out():
    gallery = Embeddings.of(points(0, 1, 3, 7), [1, 2, 1, 2])
    rows, _ = top_k_of(gallery.select(np.array([2, 0])), gallery, 2, Settings(protocol="course-strict"))
    assert rows.tolist() == [[1, 0], [1, 2]]
    rows, _ = top_k_of(gallery.select(np.array([2, 0])), gallery, 2)
    assert rows.tolist() == [[2, 1], [0, 1]]
