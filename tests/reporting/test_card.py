"""The model card: metadata that the hub's own parser reads, and the words that must be on it."""

import re
from pathlib import Path

import pytest
import yaml
from helpers.fake_hub import FakeHub
from huggingface_hub import ModelCard, constants
from huggingface_hub.utils import validate_repo_id

from reid_accel.config.schema import DataConfig
from reid_accel.models.model_folder import LICENSE_FILE
from reid_accel.reporting.card import DRAWN_TAG, is_drawn, model_card, pushed_card, write_model_card
from reid_accel.reporting.html.page import write_html
from reid_accel.reporting.metrics import RETRIEVAL_METRICS
from reid_accel.reporting.schema import Report

ARCHITECTURE = {"backbone": "test_resnet", "height_px": 64, "width_px": 32, "metric": "cosine"}


def drawn(report: Report) -> Report:
    """The report of the same run on drawn pedestrians."""
    config = DataConfig(name="synthetic-course")
    report["data"].update(name=config.name, title=config.name, drawn=config.drawn)
    return report


def test_the_hubs_parser_reads_every_score_back_with_its_protocol(report: Report, tmp_path: Path) -> None:
    write_model_card(tmp_path, report, ARCHITECTURE, "user/market")
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.library_name == "reid_accel"
    assert data.pipeline_tag == "image-feature-extraction"
    assert data.metrics == ["map", "rank-1", "accuracy"]
    assert data.model_name == "market"
    read = {(result.metric_name, result.dataset_split): result.metric_value for result in data.eval_results}
    listed = [scores for scores in report["retrieval"] if scores["protocol"] != "course"]
    assert len(listed) == 4
    for scores in listed:
        label = f"{scores['protocol']}, ap=standard, cosine"
        label += f", re-ranked: {scores['rerank']}" if scores["rerank"] else ""
        for name, value in {"mAP": scores["mAP"], "mINP": scores["mINP"], "rank-1": scores["cmc"]["1"]}.items():
            assert read[f"{name} ({label})", scores["split"]] == round(value, 6)
    assert report["attributes"] is not None
    convention = report["attributes"]["conventions"]["12 groups"]
    assert read["accuracy (12 groups)", "gallery"] == round(convention["accuracy"], 6)
    assert read["majority baseline (12 groups)", "gallery"] == round(convention["majority_baseline"], 6)
    assert len(read) == 4 * 6 + 3 * 2 + 1


def test_the_model_index_begins_with_the_headline_and_has_no_score_with_the_query_as_a_hit(report: Report) -> None:
    report["retrieval"].reverse()
    results = ModelCard(model_card(report, ARCHITECTURE)).data.eval_results
    assert results[0].metric_name == "mAP (market1501, ap=standard, cosine)"
    assert results[0].dataset_split == "query → gallery"
    assert not [result for result in results if "(course," in result.metric_name]
    assert "own first hit" in model_card(report, ARCHITECTURE)


def test_every_metric_is_a_column_of_the_card(report: Report) -> None:
    card = model_card(report, ARCHITECTURE)
    header = next(line for line in card.splitlines() if line.startswith("| Retrieval"))
    assert header.strip("| ").split(" | ") == ["Retrieval", *(metric.heading for metric in RETRIEVAL_METRICS)]


def test_card_and_page_name_the_initial_weights(report: Report, tmp_path: Path) -> None:
    assert "Initial weights" not in model_card(report, ARCHITECTURE), "the control: a report without them"
    assert report["model"] is not None
    report["model"] |= {"initial_weights": "resnet50.tv_in1k", "initial_weights_sha256": "0676ba61"}
    assert "Initial weights: resnet50.tv_in1k, SHA-256 0676ba61." in model_card(report, ARCHITECTURE)
    write_html(tmp_path / "report.html", report, [], [])
    assert "from resnet50.tv_in1k" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("own", [True, False])
def test_the_front_matter_passes_the_hubs_validator(report: Report, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    report = drawn(report) if own else report
    with FakeHub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        ModelCard(model_card(report, ARCHITECTURE, "user/market")).validate()
        for wrong in ("license: [my-own]", "license: other", "datasets: 3", "base_model: a b c"):
            with pytest.raises(ValueError, match=wrong.partition(":")[0]):
                ModelCard(f"---\n{wrong}\n---\n").validate()


def test_license_and_data_sets_are_those_of_what_was_trained_on(report: Report, tmp_path: Path) -> None:
    write_model_card(tmp_path, report, ARCHITECTURE)
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.license, data.license_link, data.datasets) == ("other", LICENSE_FILE, ["Made-Market"])
    assert "Made Market" in (tmp_path / LICENSE_FILE).read_text()
    report["config"]["data"]["also"] = ["msmt17:/sets/msmt17"]
    assert ModelCard(model_card(report, ARCHITECTURE)).data.datasets == ["Made-Market", "msmt17"]
    write_model_card(tmp_path / "drawn", drawn(report), ARCHITECTURE)
    assert ModelCard.load(tmp_path / "drawn" / "README.md").data.license == "apache-2.0"
    assert not (tmp_path / "drawn" / LICENSE_FILE).exists()
    report["config"]["model"]["pretrained"] = True
    assert ModelCard(model_card(report, ARCHITECTURE)).data.license == "other"


@pytest.mark.parametrize(
    ("backbone", "weights_file", "base_model"),
    [
        ("resnet50.tv_in1k", None, "timm/resnet50.tv_in1k"),
        ("resnet50_ibn_a", None, "timm/resnet50.a1_in1k"),
        ("resnet50.tv_in1k", "drawn/model.safetensors", None),
    ],
)
def test_pretrained_weights_are_the_base_model(
    report: Report, backbone: str, weights_file: str | None, base_model: str | None
) -> None:
    report["config"]["model"].update(pretrained=True, backbone=backbone, weights_file=weights_file)
    data = ModelCard(model_card(report, ARCHITECTURE)).data
    assert data.base_model == base_model
    if base_model is not None:
        validate_repo_id(base_model)


@pytest.mark.parametrize("name", ["synthetic", "synthetic-course"])
def test_drawn_data_is_called_drawn_in_either_layout(report: Report, name: str) -> None:
    config = DataConfig(name=name)
    report["data"].update(name=name, drawn=config.drawn)
    card = model_card(report, ARCHITECTURE)
    assert "drawn by the package" in card
    assert "academic research only" not in card
    assert DRAWN_TAG in ModelCard(card).data.tags


def test_weights_of_another_run_or_another_set_make_a_model_that_may_have_seen_people(report: Report) -> None:
    assert is_drawn(drawn(report))
    assert not DataConfig(name="synthetic", also=("market1501:folder",)).drawn
    report["config"]["model"]["weights_file"] = "runs/market1501/model/model.safetensors"
    assert not is_drawn(report)
    assert DRAWN_TAG not in ModelCard(model_card(report, ARCHITECTURE)).data.tags


def test_loading_takes_three_lines_that_are_python_and_name_the_repository(report: Report) -> None:
    card = model_card(report, ARCHITECTURE, "user/market")
    code = card.partition("```python\n")[2].partition("```")[0]
    compile(code, "card", "exec")
    assert code.splitlines()[:2] == [
        "from reid_accel import ReIDModel",
        'model = ReIDModel.from_pretrained("user/market")',
    ]
    assert "model.embed(images)" in code.splitlines()[2]
    assert "model.attributes(images)" in code
    assert re.search(r"^pip install reid_accel-[\d.]+-py3", card, re.MULTILINE)


def test_a_pushed_card_has_the_repositorys_name_wherever_it_was_written_for(report: Report) -> None:
    for first in (None, "another/name"):
        card = pushed_card(model_card(report, ARCHITECTURE, first), "user/market")
        assert 'from_pretrained("user/market")' in card
        assert "user/name" not in card
        assert "another/name" not in card
        assert ModelCard(card).data.model_name == "market"
        assert len(ModelCard(card).data.eval_results) == 31


def test_uses_limitations_and_the_license_of_the_data_are_stated(report: Report) -> None:
    card = " ".join(model_card(report, ARCHITECTURE).split())
    for words in (
        "academic research only",
        "## Prohibited use",
        "law enforcement",
        "sensitive trait",
        "coarse perceptions",
    ):
        assert words in card
    assert "drawn by the package" not in card


def test_attributes_have_readable_names(report: Report) -> None:
    card = model_card(report, ARCHITECTURE)
    assert "| upper-body color |" in card
    assert "| length of lower-body clothing |" in card
    assert "| upper_color |" not in card


def test_a_model_without_attributes_has_no_word_on_them(report: Report) -> None:
    assert report["model"] is not None
    report["model"]["attributes"] = []
    report.update(attributes=None, junk=None)
    page = model_card(report, {}).partition("## Training")[0]
    assert "ttribute" not in page
    assert "annotators" not in page


def test_a_card_without_training_or_scores_is_still_a_card(report: Report) -> None:
    report.update(training=None, attributes=None, junk=None, model=None)
    card = model_card(report, {})
    assert "model.attributes" not in card
    assert "Trained for" not in card
    report.update(retrieval=[], config={})
    data = ModelCard(model_card(report, {})).data
    assert data.library_name == "reid_accel"
    assert data.eval_results is None


def test_folders_of_the_machine_stay_off_the_card(report: Report) -> None:
    report["config"]["data"]["root"] = "/home/someone/sets/market"
    report["config"]["run"] = {"folders": ["C:\\Users\\someone\\runs\\first"], "name": "````\n````"}
    report["data"]["warnings"] = [f"{report['data']['root']} lacks 3 images"]
    card = model_card(report, ARCHITECTURE)
    assert "someone" not in card
    assert report["data"]["root"] not in card
    config = yaml.safe_load(
        card.partition("Configuration of the run")[2].partition("`````yaml\n")[2].partition("`````")[0]
    )
    assert config["data"]["root"] == ".../market"
    assert config["optim"] == report["config"]["optim"]
    assert config["run"]["name"] == "````\n````"


@pytest.mark.parametrize("evil", ["a | b", "<script>", "two\nlines"])
def test_names_cannot_break_tables_or_bring_html(report: Report, evil: str) -> None:
    report["title"] = report["data"]["title"] = evil
    report["retrieval"][0]["split"] = evil
    assert report["attributes"] is not None
    report["attributes"]["per_group"][0]["name"] = evil
    card = model_card(report, {})
    body = card.split("---\n", 2)[2].partition("## Training")[0]
    assert "<script>" not in body
    rows = [line for line in body.splitlines() if line.startswith("| ")]
    retrieval = [line.replace("\\|", "") for line in rows if "cosine" in line]
    assert [line.count("|") for line in retrieval] == [10] * 5 + [5] * 5  # ranking and verification
