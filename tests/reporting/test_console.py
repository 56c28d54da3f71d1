"""The terminal's tables: everything important is there and nothing is wider than 100 columns."""

import io
import logging
import re

import pytest
from rich.console import Console

from reid_accel.reporting.console import epoch_line, open_console, print_report, print_retrieval
from reid_accel.reporting.metrics import ATTRIBUTE_METRICS, RETRIEVAL_METRICS
from reid_accel.reporting.schema import Report, precise_percent


def printed(report: Report, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_report(console, report)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_numbers_stand_in_the_row_of_their_protocol_and_with_their_baseline(report: Report) -> None:
    lines = printed(report).splitlines()
    scores, attributes = report["retrieval"][0], report["attributes"]
    assert attributes is not None
    convention = attributes["conventions"]["12 groups"]
    first = next(line for line in lines if "market1501" in line)
    for metric in RETRIEVAL_METRICS:
        assert metric.text(metric.value(scores)) in first
    row = next(line for line in lines if "12 groups" in line)
    assert re.search(
        rf"{precise_percent(convention['accuracy'])} +{precise_percent(convention['majority_baseline'])}", row
    )
    assert any("lower-body color" in line for line in lines)
    assert not any("lower_color" in line for line in lines)


def test_the_headline_is_named_with_its_protocol_and_is_not_course(report: Report) -> None:
    assert re.search(r"^mAP [\d.]+ %, rank-1 [\d.]+ % \(market1501, ap=standard", printed(report), re.MULTILINE)
    report["retrieval"] = [scores for scores in report["retrieval"] if scores["split"] != "query → gallery"]
    text = printed(report)
    assert re.search(r"^mAP [\d.]+ %, rank-1 [\d.]+ % \(course-strict, ap=standard", text, re.MULTILINE)
    assert "own first hit" in " ".join(text.split())


def test_an_epochs_line_adds_up_and_names_the_validation_protocol(report: Report) -> None:
    assert report["training"] is not None
    line = epoch_line(report["training"]["history"][-1], 2)
    assert line.startswith("epoch   2/2  loss ")
    total, terms = re.search(r"loss ([\d.]+) \((.*?)\)", line).groups()
    assert sum(map(float, re.findall(r"\d+\.\d+", terms))) == pytest.approx(float(total), abs=0.003)
    assert re.search(r"train identity [\d.]+ %  train attributes [\d.]+ %  val mAP \(market1501\) [\d.]+ %", line)


def test_an_epochs_line_of_a_run_without_attributes_has_no_word_on_them(report: Report) -> None:
    assert report["training"] is not None
    line = dict(report["training"]["history"][-1], losses={"identity": 1.0}, attribute_accuracy=None)
    assert "attr" not in epoch_line(line | {"validation_attribute_accuracy": None}, 2)


def test_every_metric_is_a_column(report: Report) -> None:
    words = " ".join(printed(report).split())
    for metric in (*RETRIEVAL_METRICS, *ATTRIBUTE_METRICS):
        assert all(word in words for word in metric.heading.split())


def test_nothing_is_wider_than_100_columns_or_than_a_narrower_terminal(report: Report) -> None:
    for width, limit in ((200, 100), (100, 100), (80, 80)):
        assert max(map(len, printed(report, width).splitlines())) <= limit


def test_warnings_are_printed_as_they_are_even_when_they_look_like_markup(report: Report) -> None:
    report["data"]["warnings"] = ["[bold]odd[/bold] name"]
    report["data"]["skipped_images"] = [{"name": "0042_c1_000017.jpg", "reason": "image file is truncated"}]
    assert "[bold]odd[/bold] name" in printed(report)
    assert "0042_c1_000017.jpg: image file is truncated" in printed(report)


def test_retrieval_scores_alone_are_one_table(report: Report) -> None:
    console = Console(file=io.StringIO(), width=100)
    print_retrieval(console, report["retrieval"])
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count("rank-20") == 1


def test_an_empty_report_prints_no_table(report: Report) -> None:
    report.update(retrieval=[], attributes=None, junk=None, training=None)
    report["data"].update(warnings=[], skipped_images=[])
    assert printed(report).strip() == ""


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["a detail", "images of [red]", "warning: disk [bold]full[/]", "error: no"]),
        ("info", ["images of [red]", "warning: disk [bold]full[/]", "error: no"]),
        ("warning", ["warning: disk [bold]full[/]", "error: no"]),
        ("error", ["error: no"]),
    ],
)
def test_the_log_is_printed_from_its_level_on_as_plain_text(
    level: str, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("reid_accel.data.open")
    for _ in range(2):  # a second run in one process prints nothing twice
        open_console(is_main_process=True, log_level=level)
    logger.debug("a detail")
    logger.info("images of [red]")
    logger.warning("disk [bold]full[/]")
    logger.error("no")
    assert capsys.readouterr().out.splitlines() == expected


def test_other_processes_print_no_log(capsys: pytest.CaptureFixture[str]) -> None:
    open_console(is_main_process=False)
    logging.getLogger("reid_accel.data.open").warning("seen by every process")
    assert capsys.readouterr() == ("", "")
