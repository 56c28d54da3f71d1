"""Numbers that public evaluation codes give for the same problems.

golden/small.npz has two small problems (integer features with thousands of exact ties, float features without), and
their re-ranked and expanded results by public codes; golden/scores.json the scores of torchreid (f8cd150), fast-reid
(c9bc3ce) and layumi's baseline (82ff40f) for them and for the problem of Market-1501's size. Real features are not
part of the repository; their test is skipped where they are absent.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden_problems import medium
from helpers.plain_arrays import evaluate, top_k

from reid_accel.retrieval.expansion import expanded_queries
from reid_accel.retrieval.rerank import KReciprocal, reranked_panels

GOLDEN = Path(__file__).with_name("golden")
SCORES = json.loads((GOLDEN / "scores.json").read_text())
REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data"
FIELDS = ("qf", "gf", "q_pids", "g_pids", "q_camids", "g_camids")

needs_real_features = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real features at {REAL}")
medium = cache(medium)


def small(name, junk_dropped):
    stored = np.load(GOLDEN / "small.npz")
    query, gallery, *labels = (stored[f"{name}/{field}"] for field in FIELDS)
    query_pids, gallery_pids, query_cameras, gallery_cameras = labels
    kept = gallery_pids != -1 if junk_dropped else np.ones(len(gallery_pids), bool)
    return (
        query.astype(np.float32),
        gallery[kept].astype(np.float32),
        query_pids,
        gallery_pids[kept],
        query_cameras,
        gallery_cameras[kept],
    )


def real():
    stored = np.load(REAL / "cuhk03-np" / "osnet_x0_25_msmt17.npz")
    return tuple(stored[field] for field in ("qf", "gf", "qp", "gp", "qc", "gc"))


def real_scores():
    return json.loads((REAL / "golden" / "real_features.json").read_text())


def assert_scores(scores, expected, tolerance):
    assert scores.mean_ap == pytest.approx(expected["mAP"], abs=tolerance)
    if expected.get("mINP") is not None:
        assert scores.mean_inp == pytest.approx(expected["mINP"], abs=tolerance)
    for rank, share in expected["cmc"].items():
        assert scores.cmc[int(rank)] == pytest.approx(share, abs=tolerance)


@pytest.mark.parametrize("name", ["small_int", "small_float"])
@pytest.mark.parametrize("junk", ["junk_dropped", "junk_in_gallery"])
def test_small_problems_equal_the_counting_reference(name, junk):
    expected = SCORES[name][junk]
    problem = small(name, junk == "junk_dropped")
    # a gallery's junk is ignored by us, so this is the same number with junk dropped beforehand or not
    scores = evaluate(*problem)
    assert_scores(scores, expected["counting_reference_junk_ignored"], 1e-12)
    assert scores.num_valid == expected["counting_reference_junk_ignored"]["n_valid"]
    # public codes rank junk as if it were distractors
    as_distractors = (*problem[:3], np.maximum(problem[3], 0), *problem[4:])
    assert_scores(evaluate(*as_distractors), expected["counting_reference"], 1e-12)
    trapezoid = evaluate(*as_distractors, average_precision="trapezoid")
    assert_scores(trapezoid, expected["counting_reference_trapezoid"], 1e-12)


@pytest.mark.parametrize("name", ["small_int", "small_float"])
@pytest.mark.parametrize("junk", ["junk_dropped", "junk_in_gallery"])
@pytest.mark.parametrize("code", ["torchreid_py", "fastreid_py", "torchreid_cy", "fastreid_cy"])
def test_small_problems_equal_public_codes(name, junk, code):
    expected = SCORES[name][junk]["public_codes"][code]
    problem = small(name, junk == "junk_dropped")
    scores = evaluate(*problem[:3], np.maximum(problem[3], 0), *problem[4:])
    assert_scores(scores, expected, 1e-6 if code.endswith("cy") else 1e-7)


def test_layumis_trapezoid_divides_by_all_queries():
    expected = SCORES["small_float"]["junk_dropped"]["layumi_trapezoid"]
    scores = evaluate(*small("small_float", True), average_precision="trapezoid")
    assert scores.mean_ap * scores.num_valid / scores.num_queries == pytest.approx(expected["mAP"], abs=1e-7)


@pytest.mark.parametrize("average_precision", ["standard", "trapezoid"])
def test_the_medium_problem_equals_public_codes(average_precision):
    expected = SCORES["medium"][average_precision]
    scores = evaluate(*medium(), average_precision=average_precision)
    assert_scores(scores, expected, 1e-6)
    assert round(scores.mean_ap, 6) == (0.774812 if average_precision == "standard" else 0.769760)


@needs_real_features
def test_real_features_equal_public_codes():
    rank = real_scores()["rank"]
    assert_scores(evaluate(*real()), rank["fastreid_cy"], 1e-6)
    assert_scores(evaluate(*real(), average_precision="trapezoid"), {"mAP": 0.079612, "cmc": {}}, 5e-7)


def test_re_ranked_small_problem_equals_the_public_matrix():
    query, gallery, *_ = problem = small("small_float", True)
    expected = np.load(GOLDEN / "small.npz")["reranked"]
    panels = reranked_panels(
        torch.from_numpy(query), torch.from_numpy(gallery), KReciprocal(), metric="euclidean", chunk_bytes=2**20
    )
    np.testing.assert_allclose(np.concatenate([panel for _, panel in panels]), expected, atol=2e-5)
    golden = SCORES["small_float_reranked"]
    assert_scores(evaluate(*problem, rerank=KReciprocal()), golden, 1e-5)
    assert_scores(evaluate(*small("small_float", False), rerank=KReciprocal()), golden, 1e-5)


@needs_real_features
def test_re_ranked_real_features_equal_public_codes():
    golden = real_scores()["rerank"]["torchreid_euclid"]["eval"]
    assert_scores(evaluate(*real(), rerank=KReciprocal()), golden, 1e-5)


def test_re_ranked_medium_problem_equals_the_public_code():
    query, gallery, query_pids, gallery_pids, query_cameras, gallery_cameras = medium()
    order = np.random.default_rng(5).permutation(len(gallery))
    scores = evaluate(
        query,
        gallery[order],
        query_pids,
        gallery_pids[order],
        query_cameras,
        gallery_cameras[order],
        rerank=KReciprocal(),
    )
    assert_scores(scores, SCORES["medium"]["reranked"], 1e-5)


def test_expanded_queries_point_where_the_public_code_points():
    query, gallery, *_ = small("small_float", True)
    union = np.concatenate([query, gallery])
    expected = np.load(GOLDEN / "small.npz")["expanded"]
    # that code searches queries and gallery together and counts the query itself as the first of the five
    rows, _ = top_k(query, union, 5, metric="cosine")
    ours = expanded_queries(torch.from_numpy(query), torch.from_numpy(union[rows]), 3.0, include_query=False).numpy()
    np.testing.assert_allclose(
        ours / np.linalg.norm(ours, axis=1, keepdims=True),
        expected / np.linalg.norm(expected, axis=1, keepdims=True),
        atol=1e-6,
    )
