"""Numbers that public evaluation codes give the same problems; skipped where that data is absent."""

import importlib.util
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.plain_arrays import evaluate, top_k

from reid_accel.retrieval.expansion import expanded_queries
from reid_accel.retrieval.rerank import KReciprocal, reranked_panels

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
GOLDEN = DATA / "golden"

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden numbers at {GOLDEN}")

FIELDS = ("qf", "gf", "q_pids", "g_pids", "q_camids", "g_camids")


@cache
def numbers(name):
    return json.loads((GOLDEN / name).read_text())


def small(name, junk_dropped):
    stored = np.load(GOLDEN / "golden_small.npz")
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


@cache
def medium():
    spec = importlib.util.spec_from_file_location("golden_problems", GOLDEN / "problems.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    problem = module.medium512()
    return tuple(problem[field] for field in FIELDS)


def real():
    stored = np.load(DATA / "cuhk03-np" / "osnet_x0_25_msmt17.npz")
    return tuple(stored[field] for field in ("qf", "gf", "qp", "gp", "qc", "gc"))


def assert_scores(scores, expected, tolerance):
    assert scores.mean_ap == pytest.approx(expected["mAP"], abs=tolerance)
    if expected.get("mINP") is not None:
        assert scores.mean_inp == pytest.approx(expected["mINP"], abs=tolerance)
    for rank, share in expected["cmc"].items():
        assert scores.cmc[int(rank)] == pytest.approx(share, abs=tolerance)


@pytest.mark.parametrize("name", ["small_int", "small_float"])
@pytest.mark.parametrize("junk", ["junk_dropped", "junk_in_gallery"])
def test_small_problems_equal_the_counting_reference(name, junk):
    expected = numbers("golden_small.json")["problems"][name][junk]
    problem = small(name, junk == "junk_dropped")
    # a gallery's junk is ignored by us, so this is the same number with junk dropped beforehand or not
    scores = evaluate(*problem)
    assert_scores(scores, expected["bounds_junk_ignored"]["stable"], 1e-12)
    assert scores.num_valid == expected["bounds_junk_ignored"]["stable"]["n_valid"]
    # public codes rank junk as if it were distractors
    as_distractors = (*problem[:3], np.maximum(problem[3], 0), *problem[4:])
    assert_scores(evaluate(*as_distractors), expected["bounds"]["stable"], 1e-12)
    trapezoid = evaluate(*as_distractors, average_precision="trapezoid")
    assert_scores(trapezoid, expected["bounds_trapezoid"]["stable"], 1e-12)


@pytest.mark.parametrize("name", ["small_int", "small_float"])
@pytest.mark.parametrize("junk", ["junk_dropped", "junk_in_gallery"])
@pytest.mark.parametrize("code", ["torchreid_py", "fastreid_py", "torchreid_cy", "fastreid_cy"])
def test_small_problems_equal_public_codes(name, junk, code):
    expected = numbers("golden_small.json")["problems"][name][junk]["rank_stable_order"][code]
    problem = small(name, junk == "junk_dropped")
    scores = evaluate(*problem[:3], np.maximum(problem[3], 0), *problem[4:])
    assert_scores(scores, expected, 1e-6 if code.endswith("cy") else 1e-7)


def test_layumis_trapezoid_divides_by_all_queries():
    expected = numbers("golden_small.json")["problems"]["small_float"]["junk_dropped"]["rank"]["layumi"]
    scores = evaluate(*small("small_float", True), average_precision="trapezoid")
    assert scores.mean_ap * scores.num_valid / scores.num_queries == pytest.approx(expected["mAP"], abs=1e-7)


@pytest.mark.parametrize("average_precision", ["standard", "trapezoid"])
def test_the_medium_problem_equals_public_codes(average_precision):
    golden = numbers("golden_medium512.json")
    expected = golden["reference_trapezoid"]
    if average_precision == "standard":
        expected = golden["rank"]["fastreid_cy"]
    scores = evaluate(*medium(), average_precision=average_precision)
    assert_scores(scores, expected, 1e-6)
    assert round(scores.mean_ap, 6) == (0.774812 if average_precision == "standard" else 0.769760)


def test_real_features_equal_public_codes():
    rank = numbers("real_features.json")["rank"]
    assert_scores(evaluate(*real()), rank["fastreid_cy"], 1e-6)
    assert_scores(evaluate(*real(), average_precision="trapezoid"), {"mAP": 0.079612, "cmc": {}}, 5e-7)


def test_re_ranked_small_problem_equals_the_public_matrix():
    query, gallery, *_ = problem = small("small_float", True)
    expected = np.load(GOLDEN / "golden_small.npz")["rerank/torchreid_euclid"]
    panels = reranked_panels(
        torch.from_numpy(query), torch.from_numpy(gallery), KReciprocal(), metric="euclidean", chunk_bytes=2**20
    )
    np.testing.assert_allclose(np.concatenate([panel for _, panel in panels]), expected, atol=2e-5)
    golden = numbers("golden_small.json")["rerank_small_float_junk_dropped"]["torchreid_euclid"]["eval"]
    assert_scores(evaluate(*problem, rerank=KReciprocal()), golden, 1e-5)
    assert_scores(evaluate(*small("small_float", False), rerank=KReciprocal()), golden, 1e-5)


def test_re_ranked_real_features_equal_public_codes():
    golden = numbers("real_features.json")["rerank"]["torchreid_euclid"]["eval"]
    assert_scores(evaluate(*real(), rerank=KReciprocal()), golden, 1e-5)


def test_re_ranked_medium_problem_equals_the_public_code():
    query, gallery, query_pids, gallery_pids, query_cameras, gallery_cameras = medium()
    order = np.random.default_rng(5).permutation(len(gallery))
    golden = numbers("golden_rerank_med512.json")["torchreid_euclid"][0]
    scores = evaluate(
        query,
        gallery[order],
        query_pids,
        gallery_pids[order],
        query_cameras,
        gallery_cameras[order],
        rerank=KReciprocal(),
    )
    assert_scores(scores, {"mAP": golden["mAP"], "mINP": golden["mINP"], "cmc": {"1": golden["R1"]}}, 1e-5)


def test_expanded_queries_point_where_the_public_code_points():
    query, gallery, *_ = small("small_float", True)
    union = np.concatenate([query, gallery])
    expected = np.load(GOLDEN / "golden_small.npz")["aqe/fastreid_q_k5_a3"]
    # that code searches queries and gallery together and counts the query itself as the first of the five
    rows, _ = top_k(query, union, 5, metric="cosine")
    ours = expanded_queries(torch.from_numpy(query), torch.from_numpy(union[rows]), 3.0, include_query=False).numpy()
    np.testing.assert_allclose(
        ours / np.linalg.norm(ours, axis=1, keepdims=True),
        expected / np.linalg.norm(expected, axis=1, keepdims=True),
        atol=1e-6,
    )
