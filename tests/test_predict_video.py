"""predict.py with a tracker's crops: one row per tracklet."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import reid_accel.predict as predict_script
from reid_accel.attributes.vocabulary import MARKET_GROUPS, AttributeGroup
from reid_accel.config.schema import ModelConfig
from reid_accel.models.architecture import Architecture
from reid_accel.models.reid import ReIDModel
from reid_accel.retrieval.feature_files import read_features


@pytest.fixture
def crops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three tracklets whose frames have the same names, one of them in a folder of its own video."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    rng = np.random.default_rng(0)
    for folder, number in (("7", 3), ("12", 1), ("other, video/7", 2)):
        for frame in range(number):
            path = tmp_path / "crops" / folder / f"{frame:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (60, 30, 3), np.uint8)).save(path)
    return tmp_path / "crops"


def save_model(groups: tuple[AttributeGroup, ...] = MARKET_GROUPS) -> ReIDModel:
    torch.manual_seed(0)
    settings = ModelConfig(backbone="test_resnet", pretrained=False, height_px=64, width_px=32, neck="bn")
    model = ReIDModel(Architecture(model=settings, groups=groups, num_identities=2)).eval()
    model.save_pretrained("model")
    return model


def predict(*words: str) -> None:
    predict_script.main(["--model=model", "--cache-dir=cache", *words])


def rows_of(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as left:
        predict(*words)
    assert left.value.code == 2
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_each_tracklet_is_a_row_with_the_attributes_of_its_mean_scores(crops: Path) -> None:
    model = save_model()
    predict("--video-crops=crops", "--save-features", "--dir=out")
    rows = rows_of("out/tracklets.csv")
    assert [(row["id"], row["images"]) for row in rows] == [("12", "1"), ("7", "3"), ("other, video/7", "2")]
    features = read_features(Path("out/features"), "tracklets")
    assert features.name_N == ("12", "7", "other, video/7")
    for row, feature in zip(rows, features.embedding_SD, strict=True):
        paths = sorted((crops / row["id"]).iterdir())
        assert torch.allclose(model.embed(paths).mean(0), feature, atol=1e-5)
        seen = model.attributes(paths, probabilities=True)
        for group in MARKET_GROUPS:
            mean = {value: np.mean([one[group.name][value] for one in seen]) for value in group.values}
            assert row[group.name] == max(mean, key=lambda value: mean[value])
    assert sorted(path.name for path in Path("out").iterdir()) == ["features", "tracklets.csv"]


def test_queries_rank_the_tracklets(crops: Path) -> None:
    save_model(groups=())
    shutil.copy(crops / "12" / "000000.png", "person.png")
    predict("--video-crops=crops", "--queries=person.png", "--dir=out", "--pooling=medoid")
    ranked = rows_of("out/rank_lists.csv")
    assert [row["rank"] for row in ranked] == ["1", "2", "3"]
    assert (ranked[0]["query"], ranked[0]["id"]) == ("person.png", "12")
    assert float(ranked[0]["distance"]) == pytest.approx(0, abs=1e-2)
    assert rows_of("out/tracklets.csv")[1] == {"id": "7", "images": "3"}
    predict("--video-crops=crops", "--queries=person.png", "--dir=short", "--score.rank-list-length=2")
    assert len(rows_of("short/rank_lists.csv")) == 2


def test_an_unreadable_frame_can_be_skipped(crops: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model()
    (crops / "7" / "000001.png").write_bytes(b"no image")
    assert "cannot read the image" in refused(capsys, "--video-crops=crops")
    (crops / "12" / "000000.png").write_bytes(b"no image")
    predict("--video-crops=crops", "--on-bad-image=skip", "--dir=out")
    assert [(row["id"], row["images"]) for row in rows_of("out/tracklets.csv")] == [("7", "2"), ("other, video/7", "2")]


def test_wrong_uses_are_refused(crops: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model()
    assert "use only one of them" in refused(capsys, "--video-crops=crops", "--test=crops/7")
    assert "or --video-crops FOLDER" in refused(capsys, "--queries=crops/7")
    assert "there is no folder absent" in refused(capsys, "--video-crops=absent")
    Path("empty").mkdir()
    assert "contains no images" in refused(capsys, "--video-crops=empty")
    assert "3 images outside of a tracklet's folder (000000.png, ...)" in refused(capsys, "--video-crops=crops/7")
    (crops / "7").rename(crops / "7\n")
    assert "rename the folder" in refused(capsys, "--video-crops=crops")
