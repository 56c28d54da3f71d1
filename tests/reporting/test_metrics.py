"""The tables of scores, and what it takes to add a metric to them."""

import io

import pytest
from rich.console import Console

from reid_accel.reporting import metrics
from reid_accel.reporting.card import model_card
from reid_accel.reporting.console import print_report
from reid_accel.reporting.html.page import render
from reid_accel.reporting.metrics import Metric, headline, retrieval_tables
from reid_accel.reporting.schema import Report, points


def test_one_entry_adds_a_metric_to_terminal_page_card_and_model_index(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = Metric("mean of both", lambda scores: (scores["mAP"] + scores["mINP"]) / 2)
    monkeypatch.setattr(metrics, "RETRIEVAL_METRICS", (*metrics.RETRIEVAL_METRICS, added))
    value = added.text(added.value(report["retrieval"][0]))
    console = Console(file=io.StringIO(), width=120)
    print_report(console, report)
    assert isinstance(console.file, io.StringIO)
    card = model_card(report, {})
    for text in (console.file.getvalue(), render(report, [], []), card):
        assert value in text
    assert "| mean of both |" in card
    assert "name: mean of both (market1501" in card


def test_a_metric_that_no_row_has_is_no_column(report: Report) -> None:
    for scores in report["retrieval"]:
        del scores["cmc"]["20"]
        scores["tpr_at_fpr"] = {}
    tables = retrieval_tables(report["retrieval"])
    assert [table.label for table in tables] == ["Retrieval"]
    assert "rank-10" in tables[0].headings
    assert "rank-20" not in tables[0].headings


def test_the_headline_is_plain_even_when_re_ranked_scores_come_first(report: Report) -> None:
    report["retrieval"].sort(key=lambda scores: scores["rerank"] is None)
    assert report["retrieval"][0]["rerank"] is not None
    quoted = headline(report)
    assert quoted is not None
    assert (quoted["protocol"], quoted["split"], quoted["rerank"]) == ("market1501", "query → gallery", None)


def test_scores_of_the_course_protocol_alone_have_no_headline(report: Report) -> None:
    report["retrieval"] = [scores for scores in report["retrieval"] if scores["protocol"] == "course"]
    assert len(report["retrieval"]) == 1
    assert headline(report) is None
    assert "Rank-1" not in render(report, [], [])


def test_a_difference_has_a_sign_and_nothing_is_a_dash() -> None:
    assert (points(0.1), points(-0.1), points(0.0), points(None)) == ("+10.0", "−10.0", "+0.0", "–")
