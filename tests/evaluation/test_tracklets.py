"""Scores of tracklets: from names to the report, equal to those of embeddings pooled by hand."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.launching import read_json
from helpers.made_sets import make_tracked_market

from reid_accel.config.schema import ModelConfig
from reid_accel.data.forms.layouts import MarketLayout
from reid_accel.models.architecture import Architecture
from reid_accel.models.reid import ReIDModel
from reid_accel.retrieval.api import evaluate
from reid_accel.retrieval.feature_files import read_features
from reid_accel.retrieval.features import Embeddings
from reid_accel.retrieval.protocol import Settings
from reid_accel.score import main as score


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    torch.manual_seed(0)
    settings = ModelConfig(
        backbone="test_resnet", pretrained=False, height_px=64, width_px=32, neck="bn", metric="cosine"
    )
    ReIDModel(Architecture(model=settings, groups=(), num_identities=2)).save_pretrained("model")
    return make_tracked_market(tmp_path / "set")


def scored(root: Path, folder: str, *more: str) -> list[dict[str, object]]:
    data = ["--data.name=market-layout", f"--data.root={root}", "--data.cache-dir=cache"]
    score(["--model=model", *data, f"--dir={folder}", *more])
    return read_json(Path(folder) / "report.json")["retrieval"]


def pooled_by_hand(images: Embeddings, how: str) -> Embeddings:
    """One row per tracklet in order of names, by the definition."""
    rows: dict[int, list[int]] = {}
    for row, tracklet in enumerate(images.tracklet_N.tolist()):
        rows.setdefault(tracklet, []).append(row)
    features = []
    for members in rows.values():
        feature_TD = images.embedding_SD[members].double().numpy()
        assert images.quality_N is not None
        weight_T = images.quality_N[members] if how == "quality" else np.ones(len(members))
        if how == "medoid":
            distance_TT = np.linalg.norm(feature_TD[:, None] - feature_TD[None], axis=2)
            features.append(feature_TD[distance_TT.sum(1).argmin()])
        else:
            features.append((weight_T[:, None] * feature_TD).sum(0) / weight_T.sum())
    first = [members[0] for members in rows.values()]
    return Embeddings.of(np.array(features), images.pid_N[first], images.camera_N[first])


def test_tracklet_scores_are_those_of_pooled_embeddings(place: Path) -> None:
    (of_images,) = scored(place, "images", "--features=features")
    query, gallery = (read_features(Path("features"), split) for split in ("query", "gallery"))
    assert len(set(query.tracklet_N.tolist())) == 6
    seen = {of_images["mAP"]}
    for how in ("mean", "quality", "medoid"):
        (entry,) = scored(place, how, f"--score.tracklets={how}")
        expected = evaluate(*(pooled_by_hand(one, how) for one in (query, gallery)), Settings(metric="cosine"))
        assert entry["mAP"] == pytest.approx(expected.mean_ap, abs=1e-9)
        assert entry["cmc"] == {str(rank): pytest.approx(share) for rank, share in expected.cmc.items()}
        assert (entry["num_queries"], entry["num_gallery"]) == (6, 18)
        assert entry["protocol"] == f"market1501, tracklets ({how})"
        assert entry["stamp"] != of_images["stamp"]
        assert f"protocol=market1501, tracklets ({how}) " in str(entry["stamp"])
        score(["--features=features", f"--score.tracklets={how}", f"--dir=saved-{how}"])
        assert read_json(Path(f"saved-{how}/report.json"))["retrieval"] == [entry]
        seen.add(entry["mAP"])
    assert len(seen) == 4, "each pooling has its own score"


def test_a_set_without_tracklets_is_refused(
    place: Path, small_market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        scored(small_market, "none", "--score.tracklets=mean")
    assert left.value.code == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "score.tracklets needs tracklets, but no image of query has one" in said


def test_names_of_mars_give_person_camera_tracklet_and_frame(place: Path) -> None:
    shutil.copy(place / "query" / "0007C2T0001F001.png", place / "bounding_box_test" / "00-1C1T0004F009.png")
    shutil.copy(place / "query" / "0007C2T0001F001.png", place / "bounding_box_test" / "0000C1T0004F001.png")
    images = {image.name: image for image in MarketLayout().read(place).splits["gallery"]}
    seventh, junk, nobody = (
        images[name] for name in ("0007C1T0002F003.png", "00-1C1T0004F009.png", "0000C1T0004F001.png")
    )
    assert (seventh.pid, seventh.camera, seventh.time) == (7, 1, 3)
    assert (junk.pid, nobody.pid) == (-1, 0)
    same = {image.tracklet for name, image in images.items() if name.startswith("0007C1T0002")}
    assert same == {seventh.tracklet}
    assert len({image.tracklet for image in images.values()}) == 20
