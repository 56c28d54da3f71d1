"""Whole runs on images of one camera, of unknown cameras, and on test images that can't be scored."""

import json
import re
from pathlib import Path

import pytest
from helpers.launching import TINY
from helpers.made_sets import make_market
from huggingface_hub import ModelCard

import reid_accel.predict as predict_script
import reid_accel.score as score_script
import reid_accel.train as train_script
from reid_accel.data.listing import UNKNOWN_CAMERA, labeled_images
from reid_accel.errors import InputError
from reid_accel.retrieval.protocol import MARKET, NO_CAMERA_RULE

RULES = {"one camera": r"_c\d", "no camera": r"_c\ds1"}


@pytest.fixture
def market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_market(tmp_path / "market")


def renamed(root: Path, pattern: str, replacement: str) -> None:
    for path in sorted(root.rglob("*.png")):
        path.rename(path.with_name(re.sub(pattern, replacement, path.name)))


def train(*more: str) -> Path:
    train_script.main(
        [*TINY, "--data.name=market-layout", "--data.root=market", "--data.cache-dir=cache", "--train.batch-size=4",
         "--train.epochs=2", "--run.dir=run", "--data.validation-share=0.4", "--score.rerank", *more]
    )  # fmt: skip
    return Path("run")


@pytest.mark.parametrize(("pattern", "name"), [(r"_c\d", "_c1"), (r"_c\ds1", "")], ids=["one camera", "no camera"])
def test_a_run_without_a_second_camera_is_scored_without_the_camera_rule(
    market: Path, capsys: pytest.CaptureFixture[str], pattern: str, name: str
) -> None:
    renamed(market, pattern, name)
    run = train()
    report = json.loads((run / "report.json").read_text())
    tested = [scores for scores in report["retrieval"] if scores["split"] == "query → gallery"]
    assert [scores["protocol"] for scores in tested] == [NO_CAMERA_RULE] * 2
    assert all("no camera rule" in scores["stamp"] and scores["num_valid"] == 6 for scores in tested)
    assert MARKET not in {scores["protocol"] for scores in report["retrieval"]}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    validated = [line for line in lines if "validation_mAP" in line]
    assert {line["validation_protocol"] for line in validated} == {NO_CAMERA_RULE}
    assert all(line["validation_mAP"] > 0 for line in validated)
    assert any(scores["protocol"] == NO_CAMERA_RULE for scores in report["retrieval"] if scores not in tested)
    said = " ".join(capsys.readouterr().out.split())
    assert "has an image of the same person by another camera" in said
    assert "no camera rule" in said
    card = (run / "model" / "README.md").read_text()
    results = ModelCard(card).data.eval_results
    assert "mAP (market1501, no camera rule, ap=standard, cosine)" in {result.metric_name for result in results}
    assert "| market1501, no camera rule" in card
    assert not re.search(r"market1501, ap=", card)
    assert "market1501, no camera rule" in (run / "report.html").read_text()
    assert any("no camera rule" in warning for warning in report["data"]["warnings"])

    data = ["--data.name=market-layout", "--data.root=market", "--data.cache-dir=cache"]
    score_script.main(["--model=run/model", *data, "--features=features", "--dir=scored"])
    score_script.main(["--features=features", "--dir=again"])
    for folder in ("scored", "again"):
        (scores,) = json.loads(Path(folder, "report.json").read_text())["retrieval"]
        assert scores["protocol"] == NO_CAMERA_RULE
        assert scores["mAP"] == tested[0]["mAP"]
    capsys.readouterr()
    images = ["--queries=market/query", "--test=market/bounding_box_test", "--cache-dir=cache"]
    predict_script.main(["--model=run/model", *images, "--dir=predicted"])
    assert "no camera rule" in " ".join(capsys.readouterr().out.split())


def test_two_cameras_are_scored_by_the_camera_rule(market: Path) -> None:
    report = json.loads((train() / "report.json").read_text())
    assert {scores["protocol"] for scores in report["retrieval"]} == {"course", "course-strict", MARKET}
    assert report["data"]["warnings"] == []


def test_test_images_of_other_people_are_not_scored_and_training_works(
    market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in sorted((market / "query").iterdir()):
        path.rename(path.with_name("09" + path.name[2:]))
    run = train()
    said = " ".join(capsys.readouterr().out.split())
    assert "none of the 6 queries has an image of the same person among the 18 gallery images" in said
    report = json.loads((run / "report.json").read_text())
    assert report["retrieval"]
    assert not [scores for scores in report["retrieval"] if scores["split"] == "query → gallery"]
    assert (run / "model" / "model.safetensors").is_file()
    assert (run / "report.html").is_file()
    data = ["--data.name=market-layout", "--data.root=market", "--data.cache-dir=cache"]
    score_script.main(["--model=run/model", *data, "--features=features", "--dir=scored"])
    assert json.loads(Path("scored", "report.json").read_text())["retrieval"] == []
    with pytest.raises(SystemExit):
        score_script.main(["--features=features", "--dir=again"])
    assert "nothing can be scored" in " ".join(capsys.readouterr().err.split())


def test_names_without_a_camera_are_read_only_if_none_of_a_folder_has_one(market: Path) -> None:
    folder = market / "query"
    renamed(folder, r"_c\ds1", "")
    assert {image.camera for image in labeled_images(folder, {}, 0)} == {UNKNOWN_CAMERA}
    assert [image.pid for image in labeled_images(folder, {}, 0)] == list(range(7, 13))
    first = sorted(folder.iterdir())[0]
    first.rename(first.with_name("0007_c1s1_000000_00.png"))
    with pytest.raises(InputError, match=r"0008_000000_00\.png' has no person and camera"):
        labeled_images(folder, {}, 0)
