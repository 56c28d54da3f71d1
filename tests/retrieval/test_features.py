"""Saved embeddings come back complete, or are refused with a sentence."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reid_accel.errors import InputError
from reid_accel.retrieval.api import evaluate
from reid_accel.retrieval.feature_files import read_features, save_features
from reid_accel.retrieval.features import Embeddings


def embeddings(num_rows=10, fingerprint="model a, data b", seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Embeddings(
        torch.randn(num_rows, 4, generator=generator),
        range(num_rows),
        np.arange(num_rows) - 1,
        np.arange(num_rows) % 3,
        tuple(f"{row:04d}_c1_é.jpg" for row in range(num_rows)),
        fingerprint,
    )


def assert_same(first, second):
    assert first.embedding_SD.equal(second.embedding_SD)
    assert np.array_equal(first.pid_N, second.pid_N)
    assert np.array_equal(first.camera_N, second.camera_N)
    assert first.name_N == second.name_N
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("rows_per_file", [1, 3, 10, 99])
def test_what_was_saved_comes_back(tmp_path, rows_per_file):
    save_features(tmp_path, "gallery", embeddings(), rows_per_file=rows_per_file)
    assert len(list(tmp_path.glob("*.safetensors"))) == math.ceil(10 / rows_per_file)
    assert_same(read_features(tmp_path, "gallery", fingerprint="model a, data b"), embeddings())


def test_a_split_without_rows_comes_back(tmp_path):
    save_features(tmp_path, "query", embeddings(0))
    assert_same(read_features(tmp_path, "query"), embeddings(0))


def test_saving_again_replaces_all_shards_of_that_split_only(tmp_path):
    save_features(tmp_path, "query", embeddings(4))
    save_features(tmp_path, "gallery", embeddings(), rows_per_file=2)
    save_features(tmp_path, "gallery", embeddings(7, seed=1), rows_per_file=5)
    assert len(list(tmp_path.glob("gallery-*"))) == 2
    assert_same(read_features(tmp_path, "gallery"), embeddings(7, seed=1))
    assert_same(read_features(tmp_path, "query"), embeddings(4))


def test_a_missing_shard_is_refused(tmp_path):
    save_features(tmp_path, "gallery", embeddings(), rows_per_file=5)
    (tmp_path / "gallery-00001-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"gallery-00001-of-00002\.safetensors is missing"):
        read_features(tmp_path, "gallery")


def test_an_incomplete_shard_is_refused(tmp_path):
    save_features(tmp_path, "gallery", embeddings(), rows_per_file=5)
    path = tmp_path / "gallery-00000-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match="is incomplete"):
        read_features(tmp_path, "gallery")


def test_a_shard_of_another_save_is_refused(tmp_path):
    save_features(tmp_path / "a", "gallery", embeddings(), rows_per_file=5)
    save_features(tmp_path / "b", "gallery", embeddings(seed=1), rows_per_file=5)
    name = "gallery-00001-of-00002.safetensors"
    (tmp_path / "a" / name).write_bytes((tmp_path / "b" / name).read_bytes())
    with pytest.raises(InputError, match="don't belong to one save"):
        read_features(tmp_path / "a", "gallery")


def test_a_shard_with_other_rows_or_tensors_is_refused(tmp_path):
    save_features(tmp_path, "gallery", embeddings(), rows_per_file=5)
    path = tmp_path / "gallery-00000-of-00002.safetensors"
    tensors = load_file(path)
    save_file({name: tensor[:3].clone() for name, tensor in tensors.items()}, path)
    with pytest.raises(InputError, match="holds 3 rows, but the manifest has 5"):
        read_features(tmp_path, "gallery")
    save_file({"embedding": tensors["embedding"]}, path)
    with pytest.raises(InputError, match="not a shard of features"):
        read_features(tmp_path, "gallery")


def test_features_of_another_model_are_refused(tmp_path):
    save_features(tmp_path, "gallery", embeddings())
    with pytest.raises(InputError, match="were computed from model a, data b, not from model c"):
        read_features(tmp_path, "gallery", fingerprint="model c")


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"format": "something else"})])
def test_a_foreign_manifest_is_refused(tmp_path, text):
    (tmp_path / "gallery.json").write_text(text)
    with pytest.raises(InputError, match="is not a manifest of features"):
        read_features(tmp_path, "gallery")


def test_a_split_that_was_never_saved_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"gallery\.json is missing"):
        read_features(tmp_path, "gallery")


@pytest.mark.parametrize("name", ["", "../gallery", "a b"])
def test_a_split_name_that_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="split's name"):
        save_features(tmp_path, name, embeddings())


def test_embeddings_that_do_not_fit_together_are_refused():
    one = embeddings(2)
    for wrong, sentence in (
        ({"embedding_SD": one.embedding_SD.double()}, "features must be float32, float16 or bfloat16"),
        ({"embedding_SD": one.embedding_SD[0]}, "features must be a matrix"),
        ({"embedding_SD": one.embedding_SD[:1]}, "1 embeddings, but 2 rows"),
        ({"embedding_SD": one.embedding_SD[:1], "rows": range(2, 3)}, "rows must be a range within the set's 2 rows"),
        ({"pid_N": one.pid_N.astype(float)}, "pids must be int64"),
        ({"camera_N": one.camera_N[:1]}, r"cameras has shape \(1,\), but the set has 2 rows"),
        ({"source_row_N": one.pid_N[:1]}, r"source_rows has shape \(1,\), but the set has 2 rows"),
        ({"name_N": ("a.jpg",)}, "1 names, but the set has 2 rows"),
        ({"name_N": ("a.jpg", "a.jpg")}, "image a.jpg appears twice"),
    ):
        with pytest.raises(InputError, match=sentence):
            replace(one, **wrong)


def test_selected_rows_keep_their_labels_and_know_where_they_come_from():
    some = embeddings().select(np.array([7, 2, 5]))
    assert some.embedding_SD.equal(embeddings().embedding_SD[[7, 2, 5]])
    assert (some.pid_N.tolist(), some.camera_N.tolist()) == ([6, 1, 4], [1, 2, 2])
    assert some.name_N == ("0007_c1_é.jpg", "0002_c1_é.jpg", "0005_c1_é.jpg")
    assert some.select(np.array([2, 0])).source_row_N.tolist() == [5, 7]
    assert some.is_complete
    shard = embeddings().shard(range(4, 8))
    assert not shard.is_complete
    assert shard.select(np.array([7, 4])).embedding_SD.equal(embeddings().embedding_SD[[7, 4]])
    with pytest.raises(AssertionError, match="can select rows that it holds only"):
        shard.select(np.array([0]))


def test_features_are_not_copied():
    features = np.ones((3, 4), np.float32)
    assert Embeddings.of(features).embedding_SD.data_ptr() == features.ctypes.data
    half = torch.ones(3, 4, dtype=torch.float16)
    assert Embeddings.of(half).embedding_SD.data_ptr() == half.data_ptr()
    assert Embeddings.of(features).shard(range(1, 3)).embedding_SD.data_ptr() == features[1:].ctypes.data


def test_labels_have_64_bits_with_a_sign_and_larger_ones_are_refused():
    large = [2**31, 2**63 - 1]
    for labels in (large, np.array(large, np.uint64), torch.tensor(large)):
        assert Embeddings.of(np.eye(2), pids=labels, cameras=labels).pid_N.tolist() == large
    for too_large in ([2**63, 1], [2**63, -1], [2**64, 1]):
        with pytest.raises(InputError, match=r"cameras (has the number 9223372036854775808|must be integers)"):
            Embeddings.of(np.eye(2), pids=large, cameras=too_large)


def test_large_cameras_and_people_are_scored_as_small_ones():
    rng = np.random.default_rng(0)
    pids, cameras = rng.integers(1, 6, 60), rng.integers(1, 4, 60)
    features = rng.standard_normal((60, 8))

    def scores(far):
        query, gallery = (
            Embeddings.of(features[rows], pids[rows] + far, cameras[rows] + far) for rows in (slice(20), slice(20, 60))
        )
        return evaluate(query, gallery).summary()

    assert scores(2**31) == scores(2**62) == scores(0)


def test_tracklets_are_saved_selected_and_sharded(tmp_path):
    tracked = replace(embeddings(), tracklet_N=np.arange(10) // 3 - 1)
    save_features(tmp_path, "gallery", tracked, rows_per_file=4)
    again = read_features(tmp_path, "gallery")
    assert_same(again, tracked)
    assert again.tracklet_N.tolist() == [-1, -1, -1, 0, 0, 0, 1, 1, 1, 2]
    assert again.quality_N is None
    quality = np.linspace(0, 1, 10, dtype=np.float32)
    save_features(tmp_path, "gallery", replace(tracked, quality_N=quality), rows_per_file=4)
    assert np.array_equal(read_features(tmp_path, "gallery").quality_N, quality)
    assert again.select(np.array([9, 3])).tracklet_N.tolist() == [2, 0]
    assert again.shard(range(5, 10)).tracklet_N.tolist() == again.tracklet_N.tolist()
    assert Embeddings.of(np.eye(2), tracklets=[5, -1]).tracklet_N.tolist() == [5, -1]


def test_features_without_tracklets_are_the_files_they_were(tmp_path):
    save_features(tmp_path, "gallery", embeddings())
    assert sorted(load_file(tmp_path / "gallery-00000-of-00001.safetensors")) == [
        "camera",
        "embedding",
        "name",
        "name_end",
        "pid",
    ]
    again = read_features(tmp_path, "gallery")
    assert again.tracklet_N.tolist() == [-1] * 10
    assert not again.has_tracklets


def test_a_changed_tracklet_is_noticed(tmp_path):
    save_features(tmp_path, "gallery", replace(embeddings(), tracklet_N=np.arange(10)))
    path = tmp_path / "gallery-00000-of-00001.safetensors"
    tensors = load_file(path)
    tensors["tracklet"][3] = 7
    save_file(tensors, path)
    with pytest.raises(InputError, match="don't belong to one save"):
        read_features(tmp_path, "gallery")
    del tensors["tracklet"]
    save_file(tensors, path)
    with pytest.raises(InputError, match="don't belong to one save"):
        read_features(tmp_path, "gallery")


def test_tracklets_of_another_number_of_rows_are_refused():
    with pytest.raises(InputError, match="tracklets has shape"):
        replace(embeddings(), tracklet_N=np.arange(3))
    with pytest.raises(InputError, match="tracklets must be integers"):
        Embeddings.of(np.eye(2), tracklets=[0.5, 1.5])
