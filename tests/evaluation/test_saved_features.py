"""Saved features that were damaged, and disks that are full while they are written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.full_disk import files_of_at_most

from reid_accel.config.schema import ModelConfig, ScoreConfig
from reid_accel.errors import InputError
from reid_accel.evaluation.evaluate import retrieval_entries, score_variants
from reid_accel.evaluation.saved_features import FeaturesOrigin, score_saved_features, write_saved_features
from reid_accel.files import with_checksum
from reid_accel.models.architecture import Architecture
from reid_accel.models.reid import ReIDModel
from reid_accel.retrieval.feature_files import read_features, save_features
from reid_accel.retrieval.features import Embeddings

CPU = torch.device("cpu")


def embedded(split: str, seed: int, rows: int = 12) -> Embeddings:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 4)).astype(np.float32)
    return Embeddings.of(
        features, np.arange(rows) // 2 + 1, np.arange(rows) % 2, [f"{split}{n}.jpg" for n in range(rows)]
    )


def written(folder: Path, seed: int = 0) -> Path:
    sets = {"query": embedded("q", seed), "gallery": embedded("g", seed + 1)}
    write_saved_features(folder, sets, FeaturesOrigin(f"model {seed}", "cosine", flip=True, crops=5))
    return folder


def test_the_edition_of_a_data_set_stays_in_the_stamp(tmp_path: Path) -> None:
    sets = {"query": embedded("q", 0), "gallery": embedded("g", 1)}
    settings = ModelConfig(backbone="test_resnet", pretrained=False, height_px=64, width_px=32)
    model = ReIDModel(Architecture(model=settings, num_identities=2))
    write_saved_features(tmp_path, sets, FeaturesOrigin.of(model, "made", ScoreConfig(), "MSMT17-V2"))
    (entry,) = score(tmp_path)
    direct = score_variants(sets["query"], sets["gallery"], "euclidean", ScoreConfig())
    (expected,) = retrieval_entries("query", "gallery", direct, flip=False, crops=1, edition="MSMT17-V2")
    assert entry["stamp"] == expected["stamp"]
    assert str(entry["stamp"]).endswith(" edition=MSMT17-V2")
    older = json.loads((tmp_path / "about.json").read_text())
    del older["edition"], older["checksum"]
    (tmp_path / "about.json").write_text(json.dumps(with_checksum(older)))
    (earlier,) = score(tmp_path)
    assert earlier["stamp"] == str(expected["stamp"]).removesuffix(" edition=MSMT17-V2"), "files of earlier versions"


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def score(folder: Path) -> list[dict[str, object]]:
    return score_saved_features(folder, ScoreConfig(), CPU)[0]


def sentence_after_flipping(path: Path, bit: int, right: list[dict[str, object]]) -> str | None:
    """The sentence with which features are refused after a bit of a file was flipped; None if it changes nothing."""
    original = path.read_bytes()
    damaged = bytearray(original)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    try:
        assert score(path.parent) == right, f"bit {bit} of {path.name} changed the scores"
    except InputError as error:
        return str(error)
    finally:
        path.write_bytes(original)
    return None


@pytest.mark.parametrize("name", ["about.json", "gallery.json", "gallery-00000-of-00001.safetensors"])
def test_no_flipped_bit_changes_a_score(tmp_path: Path, name: str) -> None:
    path = written(tmp_path) / name
    right, bits = score(tmp_path), range(0, 8 * path.stat().st_size, 7)
    said = [sentence_after_flipping(path, bit, right) for bit in bits]
    refused = [sentence for sentence in said if sentence is not None]
    assert len(refused) > 0.5 * len(bits), "what isn't refused is layout and unused"
    assert all(str(tmp_path) in sentence and "\n" not in sentence for sentence in refused)


@pytest.mark.parametrize("name", ["about.json", "query.json", "gallery.json", "query-00000-of-00001.safetensors"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:20]),
        lambda path: path.write_bytes(b"\xff" + path.read_bytes()),
        lambda path: path.write_text("[" * 10**5),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["empty", "cut", "not UTF-8", "nested", "missing", "a folder"],
)
def test_damaged_files_are_refused_with_a_sentence(tmp_path: Path, name: str, damage: Callable[[Path], object]) -> None:
    damage(written(tmp_path) / name)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        score(tmp_path)


@pytest.mark.parametrize("file", ["../other/query-00000-of-00001.safetensors", "/etc/passwd", "..", ""])
def test_a_manifest_names_no_files_of_other_folders(tmp_path: Path, file: str) -> None:
    save_features(tmp_path / "other", "query", embedded("q", 0))
    save_features(tmp_path / "own", "query", embedded("q", 0))
    path = tmp_path / "own" / "query.json"
    manifest = json.loads(path.read_text())
    del manifest["checksum"]
    path.write_text(json.dumps(manifest))
    read_features(tmp_path / "own", "query")
    manifest["shards"][0]["file"] = file
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError):
        read_features(tmp_path / "own", "query")


def test_files_of_earlier_versions_have_no_checksum_and_one_crop(tmp_path: Path) -> None:
    right = score(written(tmp_path))
    for name in ("about", "query", "gallery"):
        content = json.loads((tmp_path / f"{name}.json").read_text())
        del content["checksum"]
        content.pop("crops", None)
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (entry,) = score(tmp_path)
    assert (entry["crops"], entry["mAP"]) == (1, right[0]["mAP"])


def test_files_of_two_saves_with_other_views_are_not_mixed(tmp_path: Path) -> None:
    """As after a kill between the renames of the second save."""
    settings = ModelConfig(backbone="test_resnet", pretrained=False, height_px=64, width_px=32)
    model = ReIDModel(Architecture(model=settings, num_identities=2))
    sets = {"query": embedded("q", 0), "gallery": embedded("g", 1)}
    for name, flip in (("plain", False), ("flipped", True)):
        write_saved_features(tmp_path / name, sets, FeaturesOrigin.of(model, "made", ScoreConfig(flip=flip)))
    for path in (tmp_path / "flipped").glob("gallery*"):
        shutil.copy(path, tmp_path / "plain")
    assert score(tmp_path / "flipped")
    with pytest.raises(InputError, match=r"gallery.*flip True.*not from.*flip False"):
        score(tmp_path / "plain")


@pytest.mark.parametrize("room", [0, 100, 300, 700])
def test_a_full_disk_leaves_the_earlier_features(tmp_path: Path, room: int) -> None:
    folder = written(tmp_path / "features")
    before, right = content_of(folder), score(folder)
    with files_of_at_most(room), pytest.raises(InputError, match=r"the features could not be written to .*features"):
        written(folder, seed=5)
    assert content_of(folder) == before
    assert score(folder) == right
    written(folder, seed=5)
    assert content_of(folder) != before, "the control: there is room again"


def test_a_full_disk_leaves_no_half_written_features(tmp_path: Path) -> None:
    with files_of_at_most(300), pytest.raises(InputError, match="could not be written"):
        written(tmp_path / "features")
    assert list(tmp_path.iterdir()) == []
