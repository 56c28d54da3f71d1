"""Scores and rank lists on 1, 2 and 3 real processes, each holding only its part of the gallery: the same bits."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from reid_accel.errors import InputError
from reid_accel.retrieval.api import evaluate, top_k
from reid_accel.retrieval.expansion import AlphaExpansion
from reid_accel.retrieval.rerank import KReciprocal
from reid_accel.retrieval.sharded import evaluate_sharded, shard_rows, top_k_sharded

NUM_GALLERY, NUM_QUERIES, BLOCK = 1013, 45, 64
OWN_ROWS = np.arange(NUM_QUERIES) * 7
OPTIONS = {"gallery_block": BLOCK, "chunk_bytes": 16 * 4 * 1024}
SCORES = {
    "market1501": {},
    "half": {},
    "cosine": {"metric": "cosine", "average_precision": "trapezoid"},
    "course": {"protocol": "course"},
    "course-strict": {"protocol": "course-strict", "query_rows": OWN_ROWS},
    "expanded": {"query_expansion": AlphaExpansion(4)},
    "reranked": {"rerank": KReciprocal(10, 4), "query_expansion": AlphaExpansion(3)},
}


def problem(seed=0):
    """Float features around each person's own point, some of them equal, with junk and distractors."""
    rng = np.random.default_rng(seed)
    query_pids, gallery_pids = rng.integers(1, 40, NUM_QUERIES), rng.integers(-1, 40, NUM_GALLERY)
    gallery_pids[OWN_ROWS] = query_pids  # the rows that course-strict takes for the queries themselves
    centers = rng.standard_normal((41, 24))
    query = (centers[query_pids] + rng.standard_normal((NUM_QUERIES, 24))).astype(np.float32)
    gallery = (centers[gallery_pids] + rng.standard_normal((NUM_GALLERY, 24))).astype(np.float32)
    gallery[500:560] = gallery[100:160]
    return (
        query,
        gallery,
        query_pids,
        gallery_pids,
        rng.integers(0, 4, NUM_QUERIES),
        rng.integers(0, 4, NUM_GALLERY),
    )


def cut(arrays, rows):
    query, gallery, query_pids, gallery_pids, query_cameras, gallery_cameras = arrays
    part = slice(rows.start, rows.stop)
    return query, gallery[part], query_pids, gallery_pids[part], query_cameras, gallery_cameras[part]


def labels_of(arrays, gallery="shard"):
    names = ("query_pids", f"{gallery}_pids", "query_cameras", f"{gallery}_cameras")
    return dict(zip(names, arrays[2:], strict=True))


def bits(scores):
    """Everything in the scores, as text that differs when one bit does."""
    arrays = (scores.ap_Q, scores.first_rank_Q, scores.inp_Q)
    return [repr(scores.summary()), *(array.tobytes().hex() for array in arrays)]


def bits_of_list(found):
    rows, distances = found
    return [str(rows.tolist()), distances.tobytes().hex()]


def score_part(arrays, rows, name, **options):
    if name == "half":
        arrays = (arrays[0].astype(np.float16), arrays[1].astype(np.float16), *arrays[2:])
    if rows is None:
        return evaluate(*arrays, **SCORES[name], **OPTIONS)
    place = {"first_row": rows.start, "num_gallery": NUM_GALLERY}
    return evaluate_sharded(*cut(arrays, rows), **(SCORES[name] | OPTIONS | place | options))


def refusal(work):
    try:
        work()
    except InputError as error:
        return str(error)
    return "accepted"


def mistakes(arrays, rows, rank, world):
    """What each rank is told when something is wrong on one of them or between them."""
    told = {}
    if world > 1:
        missing = range(rows.start, rows.stop - (rank == 0) * BLOCK)
        told["missing"] = refusal(lambda: score_part(arrays, missing, "market1501"))
        doubled = range(rows.start - (rank == 1) * BLOCK, rows.stop)
        told["doubled"] = refusal(lambda: score_part(arrays, doubled, "market1501"))
        other = problem(1) if rank == 1 else arrays
        told["queries"] = refusal(lambda: score_part((other[0], *arrays[1:]), rows, "market1501"))
    told["short"] = refusal(lambda: score_part(arrays, rows, "market1501", num_gallery=NUM_GALLERY + 1))
    broken = list(arrays)
    broken[1] = arrays[1].copy()
    broken[1][NUM_GALLERY - 1, 3] = np.nan
    told["nan"] = refusal(lambda: score_part(broken, rows, "market1501"))
    told["nan_reranked"] = refusal(lambda: score_part(broken, rows, "reranked"))
    metric = "manhattan" if rank == world - 1 else "cosine"
    told["metric"] = refusal(lambda: score_part(arrays, rows, "market1501", metric=metric))
    return told


def work(rank, world, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    arrays = problem()
    rows = shard_rows(NUM_GALLERY, world, rank, BLOCK)
    place = {"first_row": rows.start, "num_gallery": NUM_GALLERY}
    part = cut(arrays, rows)
    found = {
        "world_size": dist.get_world_size(),
        "rows": [rows.start, rows.stop],
        "mistakes": mistakes(arrays, rows, rank, world),
        "scores": {name: bits(score_part(arrays, rows, name)) for name in SCORES},
        "list": bits_of_list(top_k_sharded(part[0], part[1], 30, **labels_of(part), **place, **OPTIONS)),
        "whole_list": bits_of_list(top_k_sharded(part[0], part[1], NUM_GALLERY, **place, **OPTIONS)),
    }
    if rank == 0:
        found["unsharded"] = {name: bits(score_part(arrays, None, name)) for name in SCORES}
        listed = partial(top_k, arrays[0], arrays[1], **OPTIONS)
        found["unsharded_list"] = bits_of_list(listed(30, **labels_of(arrays, "gallery")))
        found["unsharded_whole_list"] = bits_of_list(listed(NUM_GALLERY))
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """What each rank of 1 to 4 processes found: launched[world][rank]."""
    found = {}
    for world in (1, 2, 3, 4):
        folder = tmp_path_factory.mktemp(f"world{world}")
        torch.multiprocessing.spawn(work, (world, str(folder)), nprocs=world)
        found[world] = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]
        for rank in found[world]:
            assert rank["world_size"] == world
            assert rank["rows"][0] < rank["rows"][1] < NUM_GALLERY + 1
    return found


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("name", SCORES)
def test_scores_are_the_same_bits_on_any_number_of_ranks(launched, world, name):
    assert NUM_GALLERY % 2 == 1
    assert NUM_GALLERY % 3 == 2
    expected = launched[1][0]["unsharded"][name]
    for rank in launched[world]:
        assert rank["scores"][name] == expected
    assert launched[world][0]["unsharded"][name] == expected


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_rank_lists_are_the_same_bits_on_any_number_of_ranks(launched, world):
    for rank in launched[world]:
        assert rank["list"] == launched[1][0]["unsharded_list"]
        assert rank["whole_list"] == launched[1][0]["unsharded_whole_list"]


def test_other_features_give_other_bits():
    one, other = (bits(score_part(problem(seed), None, "market1501")) for seed in (0, 1))
    assert one[1] != other[1]


@pytest.mark.parametrize("world", [2, 3, 4])
def test_a_missing_row_is_caught_on_every_rank(launched, world):
    for rank in launched[world]:
        assert "are held by no rank" in rank["mistakes"]["missing"]


@pytest.mark.parametrize("world", [2, 3, 4])
def test_a_doubled_row_is_caught_on_every_rank(launched, world):
    for rank in launched[world]:
        assert "is held by rank 1 and by another one before it" in rank["mistakes"]["doubled"]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_a_gallery_that_ends_too_early_is_caught(launched, world):
    for rank in launched[world]:
        assert "the ranks hold gallery rows 0 to 1012, but num_gallery is 1014" in rank["mistakes"]["short"]


@pytest.mark.parametrize("world", [2, 3, 4])
def test_ranks_with_different_queries_are_caught(launched, world):
    for rank in launched[world]:
        assert "ranks 0 and 1 were given different queries" in rank["mistakes"]["queries"]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_what_one_rank_refuses_all_refuse_and_name(launched, world):
    for rank in launched[world]:
        assert "gallery_features row 1012 holds NaN" in rank["mistakes"]["nan"]
        assert "holds NaN" in rank["mistakes"]["nan_reranked"]
        assert "metric must be one of euclidean, cosine, got 'manhattan'" in rank["mistakes"]["metric"]
    if world > 1:
        assert launched[world][0]["mistakes"]["nan"].startswith(f"on rank {world - 1}: ")


def test_without_a_process_group_one_rank_holds_everything():
    assert not dist.is_initialized()
    arrays = problem()
    alone = bits(score_part(arrays, range(NUM_GALLERY), "market1501"))
    assert alone == bits(score_part(arrays, None, "market1501"))


@pytest.mark.parametrize(("rows", "world", "block"), [(1013, 3, 64), (64, 3, 64), (10, 4, 1024), (19732, 4, 1024)])
def test_shards_are_whole_blocks_and_hold_every_row_once(rows, world, block):
    shards = [shard_rows(rows, world, rank, block) for rank in range(world)]
    assert [row for shard in shards for row in shard] == list(range(rows))
    assert all(shard.start % block == 0 for shard in shards if shard)
    sizes = [-(-len(shard) // block) for shard in shards]
    assert max(sizes) - min(sizes) <= 1
