"""The terminal's tables: everything important is there and nothing runs over 100 columns."""

import io

from helpers.reports import example_report
from rich.console import Console

from reid_accel.reporting.schema import Report
from reid_accel.reporting.tables import print_report


def _printed(report: Report, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_report(console, report)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_numbers_stand_in_the_row_of_their_protocol_and_beside_their_baseline() -> None:
    lines = _printed(example_report()).splitlines()
    assert any("market, ap=standard, euclidean" in line and "68.73 %" in line for line in lines)
    assert any("12 groups" in line and "84.72 %" in line and "71.23 %" in line for line in lines)
    assert any("lower_color" in line for line in lines)
    assert any("AUC 0.873" in line for line in lines)


def test_nothing_is_wider_than_100_columns_or_than_a_narrower_terminal() -> None:
    for width, limit in ((200, 100), (100, 100), (80, 80)):
        assert max(map(len, _printed(example_report(), width).splitlines())) <= limit


def test_warnings_are_printed_as_they_are_even_when_they_look_like_markup() -> None:
    report = example_report()
    report["data"]["warnings"] = ["[bold]odd[/bold] name"]
    assert "[bold]odd[/bold] name" in _printed(report)
    assert "0042_c1_000017.jpg: image file is truncated" in _printed(report)


def test_an_empty_report_prints_no_table() -> None:
    report = example_report()
    report.update(retrieval=[], attributes=None, junk=None, training=None)
    report["data"].update(warnings=[], skipped_images=[])
    assert _printed(report).strip() == ""
