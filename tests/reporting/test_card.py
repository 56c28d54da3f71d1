"""The model card: metadata that the hub's own parser reads, and the words that must be on it."""

from pathlib import Path

import pytest
import yaml
from helpers.reports import example_report
from huggingface_hub import ModelCard

from reid_accel.reporting.card import model_card, write_model_card

ARCHITECTURE = {"backbone": "resnet18", "height_px": 128, "width_px": 64, "metric": "euclidean"}


def test_the_hubs_parser_reads_every_score_back_with_its_protocol(tmp_path: Path) -> None:
    report = example_report()
    write_model_card(tmp_path, report, ARCHITECTURE, "user/market")
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.library_name == "reid_accel"
    assert data.pipeline_tag == "image-feature-extraction"
    assert data.model_name == "market"
    read = {result.metric_name: result.metric_value for result in data.eval_results}
    assert read["mAP (market, ap=standard, euclidean)"] == report["retrieval"][0]["mAP"]
    assert read["mAP (course, ap=standard, euclidean)"] == report["retrieval"][3]["mAP"]
    assert read["accuracy (12 groups)"] == 0.8472
    assert read["majority baseline (12 groups)"] == 0.7123
    assert len(read) == 4 * 6 + 3 * 2


def test_loading_takes_three_lines_that_are_python_and_name_the_repository() -> None:
    card = model_card(example_report(), ARCHITECTURE, "user/market")
    code = card.partition("```python\n")[2].partition("```")[0]
    compile(code, "card", "exec")
    assert code.splitlines()[:2] == [
        "from reid_accel import ReIDModel",
        'model = ReIDModel.from_pretrained("user/market")',
    ]
    assert "model.embed(images)" in code.splitlines()[2]
    assert "model.attributes(images)" in code


def test_uses_limits_and_license_of_the_data_are_spelled_out() -> None:
    report = example_report()
    assert "drawn by the package" in model_card(report, ARCHITECTURE)
    report["data"]["name"] = "market1501"
    card = " ".join(model_card(report, ARCHITECTURE).split())
    for words in (
        "academic research only",
        "must not be used for",
        "law enforcement",
        "sensitive trait",
        "perceptions of annotators",
    ):
        assert words in card
    assert "drawn by the package" not in card


def test_a_card_without_training_attributes_or_scores_is_still_a_card() -> None:
    report = example_report()
    report.update(training=None, attributes=None, junk=None)
    card = model_card(report, {})
    assert "model.attributes" not in card
    assert "Trained for" not in card
    report.update(retrieval=[], config={})
    data = ModelCard(model_card(report, {})).data
    assert data.library_name == "reid_accel"
    assert data.eval_results is None


def test_folders_of_the_machine_stay_off_the_card() -> None:
    report = example_report()
    report["config"]["data"]["root"] = "/home/someone/sets/market"
    report["config"]["run"] = {"folders": ["C:\\Users\\someone\\runs\\first"]}
    report["data"]["warnings"] = [f"{report['data']['root']} lacks 3 images"]
    card = model_card(report, ARCHITECTURE)
    assert "someone" not in card
    assert report["data"]["root"] not in card
    config = yaml.safe_load(
        card.partition("Configuration of the run")[2].partition("````yaml\n")[2].partition("````")[0]
    )
    assert config["data"]["root"] == ".../market"
    assert config["optim"] == report["config"]["optim"]


@pytest.mark.parametrize("evil", ["a | b", "<script>", "two\nlines"])
def test_names_cannot_break_tables_or_bring_html(evil: str) -> None:
    report = example_report()
    report["title"] = report["data"]["name"] = evil
    report["retrieval"][0]["split"] = evil
    assert report["attributes"] is not None
    report["attributes"]["per_group"][0]["name"] = evil
    card = model_card(report, {})
    body = card.split("---\n", 2)[2]
    assert "<script>" not in body
    rows = [line for line in body.splitlines() if line.startswith("| ")]
    retrieval = [line.replace("\\|", "") for line in rows if "euclidean" in line]
    assert {line.count("|") for line in retrieval} == {11}
