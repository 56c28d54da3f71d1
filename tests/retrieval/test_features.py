"""Saved embeddings come back whole, or are refused with a sentence."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from reid_accel.errors import InputError
from reid_accel.retrieval.features import Embeddings, read_features, save_features


def embeddings(num_rows=10, fingerprint="model a, data b", seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Embeddings(
        torch.randn(num_rows, 4, generator=generator),
        torch.arange(num_rows) - 1,
        torch.arange(num_rows) % 3,
        tuple(f"{row:04d}_c1_é.jpg" for row in range(num_rows)),
        fingerprint,
    )


def assert_same(first, second):
    assert first.embedding_ND.equal(second.embedding_ND)
    assert first.pid_N.equal(second.pid_N)
    assert first.camera_N.equal(second.camera_N)
    assert first.name_N == second.name_N
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("rows_per_shard", [1, 3, 10, 99])
def test_what_was_saved_comes_back(tmp_path, rows_per_shard):
    save_features(tmp_path, "gallery", embeddings(), rows_per_shard=rows_per_shard)
    assert len(list(tmp_path.glob("*.safetensors"))) == math.ceil(10 / rows_per_shard)
    assert_same(read_features(tmp_path, "gallery", fingerprint="model a, data b"), embeddings())


def test_a_split_without_rows_comes_back(tmp_path):
    save_features(tmp_path, "query", embeddings(0))
    assert_same(read_features(tmp_path, "query"), embeddings(0))


def test_saving_again_replaces_all_shards_of_that_split_only(tmp_path):
    save_features(tmp_path, "query", embeddings(4))
    save_features(tmp_path, "gallery", embeddings(), rows_per_shard=2)
    save_features(tmp_path, "gallery", embeddings(7, seed=1), rows_per_shard=5)
    assert len(list(tmp_path.glob("gallery-*"))) == 2
    assert_same(read_features(tmp_path, "gallery"), embeddings(7, seed=1))
    assert_same(read_features(tmp_path, "query"), embeddings(4))


def test_a_missing_shard_is_refused(tmp_path):
    save_features(tmp_path, "gallery", embeddings(), rows_per_shard=5)
    (tmp_path / "gallery-00001-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"gallery-00001-of-00002\.safetensors is missing"):
        read_features(tmp_path, "gallery")


def test_a_torn_shard_is_refused(tmp_path):
    save_features(tmp_path, "gallery", embeddings(), rows_per_shard=5)
    path = tmp_path / "gallery-00000-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match="is torn"):
        read_features(tmp_path, "gallery")


def test_a_shard_of_another_save_is_refused(tmp_path):
    save_features(tmp_path / "a", "gallery", embeddings(), rows_per_shard=5)
    save_features(tmp_path / "b", "gallery", embeddings(seed=1), rows_per_shard=5)
    name = "gallery-00001-of-00002.safetensors"
    (tmp_path / "a" / name).write_bytes((tmp_path / "b" / name).read_bytes())
    with pytest.raises(InputError, match="don't belong to one save"):
        read_features(tmp_path / "a", "gallery")


def test_a_shard_with_other_rows_or_tensors_is_refused(tmp_path):
    save_features(tmp_path, "gallery", embeddings(), rows_per_shard=5)
    path = tmp_path / "gallery-00000-of-00002.safetensors"
    tensors = load_file(path)
    save_file({name: tensor[:3].clone() for name, tensor in tensors.items()}, path)
    with pytest.raises(InputError, match="holds 3 rows where the manifest says 5"):
        read_features(tmp_path, "gallery")
    save_file({"embedding": tensors["embedding"]}, path)
    with pytest.raises(InputError, match="not a shard of features"):
        read_features(tmp_path, "gallery")


def test_features_of_another_model_are_refused(tmp_path):
    save_features(tmp_path, "gallery", embeddings())
    with pytest.raises(InputError, match="were made by model a, data b, not by model c"):
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
    parts = [one.embedding_ND, one.pid_N, one.camera_N, one.name_N, ""]
    for place, wrong, sentence in (
        (0, one.embedding_ND.double(), "embeddings must be a float32 matrix"),
        (0, one.embedding_ND[:1], "1 embeddings, but 2 names"),
        (1, one.pid_N.float(), "pids must be int64"),
        (2, one.camera_N[:1], r"cameras must be int64 of shape \(2,\)"),
        (3, ("a.jpg", "a.jpg"), "image a.jpg is there twice"),
    ):
        with pytest.raises(InputError, match=sentence):
            Embeddings(*parts[:place], wrong, *parts[place + 1 :])
