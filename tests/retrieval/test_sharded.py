"""Scores and rank lists on 1, 2 and 3 real processes, each holding only its part of the gallery: the same bits."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from reid_accel.distributed.collectives import ALONE, Group
from reid_accel.errors import InputError
from reid_accel.retrieval.api import evaluate, top_k
from reid_accel.retrieval.distances import shard_rows
from reid_accel.retrieval.expansion import AlphaExpansion
from reid_accel.retrieval.features import Embeddings
from reid_accel.retrieval.protocol import TRACKLET_RULE, Settings
from reid_accel.retrieval.rerank import KReciprocal
from reid_accel.retrieval.tracklets import find_tracklets, pooled

NUM_GALLERY, NUM_QUERIES, BLOCK = 1013, 45, 64
OWN_ROWS = np.arange(NUM_QUERIES) * 7
OPTIONS = {"gallery_block": BLOCK, "chunk_bytes": 16 * 4 * 1024}
SCORES = {
    "market1501": {},
    "half": {},
    "cosine": {"metric": "cosine", "average_precision": "trapezoid"},
    "tracklets": {"protocol": TRACKLET_RULE},
    "course": {"protocol": "course"},
    "course-strict": {"protocol": "course-strict"},
    "expanded": {"query_expansion": AlphaExpansion(4)},
    "reranked": {"rerank": KReciprocal(10, 4), "query_expansion": AlphaExpansion(3)},
}


def problem(seed=0):
    """Queries and gallery: float features around each person's own point, some of them equal, junk, distractors."""
    rng = np.random.default_rng(seed)
    query_pids, gallery_pids = rng.integers(1, 40, NUM_QUERIES), rng.integers(-1, 40, NUM_GALLERY)
    gallery_pids[OWN_ROWS] = query_pids  # the rows that course-strict takes for the queries themselves
    centers = rng.standard_normal((41, 24))
    query = (centers[query_pids] + rng.standard_normal((NUM_QUERIES, 24))).astype(np.float32)
    gallery = (centers[gallery_pids] + rng.standard_normal((NUM_GALLERY, 24))).astype(np.float32)
    gallery[500:560] = gallery[100:160]
    return (
        Embeddings.of(query, query_pids, rng.integers(0, 4, NUM_QUERIES), (), OWN_ROWS, some_tracklets(NUM_QUERIES)),
        Embeddings.of(gallery, gallery_pids, rng.integers(0, 4, NUM_GALLERY), tracklets=some_tracklets(NUM_GALLERY)),
    )


def some_tracklets(number):
    return np.random.default_rng(number).integers(-1, 6, number)


def bits(scores):
    """Everything in the scores, as text that differs when one bit does."""
    arrays = (scores.ap_Q, scores.first_rank_Q, scores.inp_Q)
    return [repr(scores.summary()), *(array.tobytes().hex() for array in arrays)]


def bits_of_list(found):
    rows, distances = found
    return [str(rows.tolist()), distances.tobytes().hex()]


def score(query, gallery, name, group=ALONE, **options):
    if name == "half":
        query, gallery = (replace(each, embedding_SD=each.embedding_SD.half()) for each in (query, gallery))
    return evaluate(query, gallery, Settings(**(SCORES[name] | OPTIONS | options)), group)


def refusal(work):
    try:
        work()
    except InputError as error:
        return str(error)
    return "accepted"


def with_another_row(images):
    """The same features with labels of one more row."""
    pids, cameras = (np.append(labels, 1) for labels in (images.pid_N, images.camera_N))
    return replace(images, pid_N=pids, camera_N=cameras, tracklet_N=np.full(len(pids), -1))


def mistakes(query, gallery, rows, group):
    """What each rank is told when something is wrong on one of them or between them."""
    told = {}
    shard = gallery.shard(rows)
    first, last = group.rank == 0, group.rank == group.size - 1
    if group.size > 1:
        missing = range(rows.start, rows.stop - first * BLOCK)
        told["missing"] = refusal(lambda: score(query, gallery.shard(missing), "market1501", group))
        doubled = range(rows.start - (group.rank == 1) * BLOCK, rows.stop)
        told["doubled"] = refusal(lambda: score(query, gallery.shard(doubled), "market1501", group))
        other = replace(query, embedding_SD=(problem(1) if group.rank == 1 else problem())[0].embedding_SD)
        told["queries"] = refusal(lambda: score(other, shard, "market1501", group))
        pids = np.where(np.arange(NUM_GALLERY) == 7, 39 if group.rank == 1 else 38, gallery.pid_N)
        told["labels"] = refusal(lambda: score(query, replace(shard, pid_N=pids), "market1501", group))
        metric = "euclidean" if group.rank == 1 else "cosine"
        told["settings"] = refusal(lambda: score(query, shard, "market1501", group, metric=metric))
    told["short"] = refusal(lambda: score(query, with_another_row(shard), "market1501", group))
    broken_ND = gallery.embedding_SD.clone()
    broken_ND[NUM_GALLERY - 1, 3] = torch.nan
    broken = replace(gallery, embedding_SD=broken_ND).shard(rows)
    told["nan"] = refusal(lambda: score(query, broken, "market1501", group))
    told["nan_reranked"] = refusal(lambda: score(query, broken, "reranked", group))
    narrow = replace(query, embedding_SD=query.embedding_SD[:, :5]) if last else query
    told["dimension"] = refusal(lambda: score(narrow, shard, "market1501", group))
    return told


def pooled_bits(rank, world, group):
    """The features of 1,500 tracklets, each process having pooled its own."""
    rng = np.random.default_rng(3)
    images = Embeddings.of(
        rng.standard_normal((4000, 5)), cameras=np.zeros(4000, np.int64), tracklets=rng.permutation(4000) % 1500
    )
    shard = images.shard(shard_rows(4000, world, rank))
    images = replace(shard, quality_N=rng.random(4000).astype(np.float32))
    found = {}
    for how in ("mean", "quality", "medoid"):
        rows = pooled(images, find_tracklets(images, "gallery"), how, "cosine", group)
        assert rows.rows == shard_rows(1500, world, rank)
        found[how] = rows.gathered(group).embedding_SD.numpy().tobytes().hex()
    return found


def work(rank, world, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    group = Group.of()
    query, gallery = problem()
    rows = shard_rows(NUM_GALLERY, world, rank, BLOCK)
    shard = gallery.shard(rows)
    market, everything = Settings(**OPTIONS), Settings(protocol="course", **OPTIONS)
    selected = shard.select(OWN_ROWS, group)
    found = {
        "world_size": group.size,
        "rows": [rows.start, rows.stop],
        "selected": [bool(torch.equal(selected.embedding_SD, gallery.embedding_SD[OWN_ROWS])), selected.is_complete],
        "gathered": bool(torch.equal(shard.gathered(group).embedding_SD, gallery.embedding_SD)),
        "mistakes": mistakes(query, gallery, rows, group),
        "scores": {name: bits(score(query, shard, name, group)) for name in SCORES},
        "list": bits_of_list(top_k(query, shard, 30, market, group)),
        "full_list": bits_of_list(top_k(query, shard, NUM_GALLERY, everything, group)),
        "pooled": pooled_bits(rank, world, group),
    }
    if rank == 0:
        found["unsharded"] = {name: bits(score(query, gallery, name)) for name in SCORES}
        found["unsharded_list"] = bits_of_list(top_k(query, gallery, 30, market))
        found["unsharded_full_list"] = bits_of_list(top_k(query, gallery, NUM_GALLERY, everything))
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
        assert rank["full_list"] == launched[1][0]["unsharded_full_list"]


@pytest.mark.parametrize("world", [2, 3, 4])
def test_tracklets_are_the_same_bits_on_any_number_of_ranks(launched, world):
    alone = launched[1][0]["pooled"]
    assert len(set(alone.values())) == 3
    for rank in launched[world]:
        assert rank["pooled"] == alone


def test_other_features_give_other_bits():
    one, other = (bits(score(*problem(seed), "market1501")) for seed in (0, 1))
    assert one[1] != other[1]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_rows_of_a_sharded_gallery_are_selected_on_every_rank(launched, world):
    for rank in launched[world]:
        assert rank["selected"] == [True, True]
        assert rank["gathered"]


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
        assert "the ranks hold gallery rows 0 to 1012, but the gallery has 1014" in rank["mistakes"]["short"]


@pytest.mark.parametrize("world", [2, 3, 4])
def test_ranks_with_different_queries_labels_or_settings_are_caught(launched, world):
    for rank in launched[world]:
        for mistake in ("queries", "labels", "settings"):
            assert "ranks 0 and 1 were given different queries, labels or settings" in rank["mistakes"][mistake]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_what_one_rank_refuses_all_refuse_and_name(launched, world):
    for rank in launched[world]:
        assert "gallery_features row 1012 contains NaN" in rank["mistakes"]["nan"]
        assert "contains NaN" in rank["mistakes"]["nan_reranked"]
        assert "query_features have dimension 5, gallery_features 24" in rank["mistakes"]["dimension"]
    if world > 1:
        assert launched[world][0]["mistakes"]["nan"].startswith(f"on rank {world - 1}: ")


def test_without_a_process_group_one_rank_holds_everything():
    assert not dist.is_initialized()
    assert Group.of() is ALONE
    query, gallery = problem()
    part = gallery.shard(range(0, NUM_GALLERY - BLOCK))
    with pytest.raises(InputError, match="the ranks hold gallery rows 0 to 948, but the gallery has 1013"):
        score(query, part, "market1501")


@pytest.mark.parametrize(("rows", "world", "block"), [(1013, 3, 64), (64, 3, 64), (10, 4, 1024), (19732, 4, 1024)])
def test_shards_are_full_blocks_and_hold_every_row_once(rows, world, block):
    shards = [shard_rows(rows, world, rank, block) for rank in range(world)]
    assert [row for shard in shards for row in shard] == list(range(rows))
    assert all(shard.start % block == 0 for shard in shards if shard)
    sizes = [-(-len(shard) // block) for shard in shards]
    assert max(sizes) - min(sizes) <= 1
