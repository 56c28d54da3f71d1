"""The report in a terminal: a few tables that fit into 100 columns, each number with its protocol."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reid_accel.reporting.schema import (
    ABSENT,
    Attributes,
    DataFacts,
    Junk,
    Report,
    Retrieval,
    convention_rows,
    count,
    percent,
    points,
    protocol_label,
    ranks_shown,
)

WIDTH = 100


def print_report(console: Console, report: Report) -> None:
    """Print retrieval, attributes, junk score and data warnings of a run; what is absent is left out."""
    width = min(console.width, WIDTH)
    tables = [retrieval_table(report["retrieval"])] if report["retrieval"] else []
    if report["attributes"] is not None:
        tables += [conventions_table(report["attributes"]), groups_table(report["attributes"])]
    for table in tables:
        console.print()
        console.print(table, width=width)
    console.print()
    for sentence in _sentences(report["junk"], report["data"]):
        console.print(sentence, width=width)


def retrieval_table(retrieval: Sequence[Retrieval]) -> Table:
    """One row per protocol."""
    ranks = ranks_shown(list(retrieval))
    headers = ["Retrieval", "mAP", *(f"R{rank}" for rank in ranks), "mINP", "queries", "gallery"]
    rows = [
        [
            f"{protocol_label(scores)}\n{scores['split']}",
            percent(scores["mAP"], 2),
            *(percent(scores["cmc"].get(rank)) for rank in ranks),
            percent(scores["mINP"]),
            count(scores["num_valid"]),
            count(scores["num_gallery"]),
        ]
        for scores in retrieval
    ]
    return _table(headers, rows)


def conventions_table(attributes: Attributes) -> Table:
    """Attribute accuracy in each convention beside the majority baseline."""
    headers = [f"Attributes; {attributes['split']}", "accuracy", "baseline", "gain", "mA", "images"]
    return _table(headers, convention_rows(attributes))


def groups_table(attributes: Attributes) -> Table:
    """Each attribute beside its majority baseline."""
    headers = ["Attribute", "accuracy", "baseline", "gain", "balanced", "macro F1", "images"]
    rows = [
        [
            group["name"],
            percent(group["accuracy"]),
            percent(group["majority_baseline"]),
            points(group["accuracy"], group["majority_baseline"]),
            percent(group["balanced_accuracy"]),
            percent(group["macro_f1"]),
            count(group["num_images"]),
        ]
        for group in attributes["per_group"]
    ]
    return _table(headers, rows)


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """The first column holds words and may wrap, the others numbers that may not."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), header_style="bold", show_edge=False, collapse_padding=True)
    table.add_column(escape(headers[0]), overflow="fold", min_width=14)
    for header in headers[1:]:
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def _sentences(junk: Junk | None, data: DataFacts) -> Iterable[str]:
    if junk is not None:
        auc = ABSENT if junk["auc"] is None else f"{junk['auc']:.3f}"
        yield (
            f"Junk score: AUC {auc} ({count(junk['num_people'])} pictures of people, "
            f"{count(junk['num_junk'])} of distractors and junk)"
        )
    for warning in data["warnings"]:
        yield f"[yellow]Warning:[/] {escape(warning)}"
    skipped = data["skipped_images"]
    if skipped:
        first = f"{skipped[0]['name']}: {skipped[0]['reason']}"
        yield f"[yellow]Warning:[/] images skipped: {count(len(skipped))}, e.g. {escape(first)}"
