"""`report.html`: one file that shows a run to a person, without scripts and without anything from outside."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import yaml

from reid_accel.files import write_text
from reid_accel.reporting.html.curves import Curve, chart
from reid_accel.reporting.html.markup import Markup, bar, element, joined, section, table, text
from reid_accel.reporting.html.pictures import RankList, rank_lists_section
from reid_accel.reporting.html.style import STYLE
from reid_accel.reporting.schema import (
    ABSENT,
    Attributes,
    Convention,
    DataFacts,
    Epoch,
    Junk,
    Report,
    Retrieval,
    Training,
    count,
    hardware_line,
    headline_convention,
    percent,
    points,
    protocol_label,
    ranks_shown,
    software_line,
)


def write_html(path: Path, report: Report, best: Sequence[RankList], worst: Sequence[RankList]) -> None:
    """Write the page of one run, whole or not at all."""
    write_text(path, render(report, best, worst))


def render(report: Report, best: Sequence[RankList], worst: Sequence[RankList]) -> str:
    """The page as text: headline, tables, curves, rank lists, data, configuration."""
    sections = [
        _masthead(report),
        _warnings(report["data"]),
        _headline(report),
        _retrieval(report["retrieval"]),
        _attributes(report["attributes"]),
        _junk(report["junk"]),
        _training(report["training"]),
        rank_lists_section("Best queries", "The queries with the highest average precision.", best),
        rank_lists_section("Worst queries", "The queries with the lowest average precision.", worst),
        _data(report["data"]),
        _configuration(report),
    ]
    title = text(report["title"])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{joined(sections, newline=True)}
</main>
</body>
</html>
"""


# --- head of the page ------------------------------------------------------------------------------------


def _masthead(report: Report) -> Markup:
    created = report["created"].replace("T", " ")[:16]
    facts = " · ".join([report["data"]["name"], hardware_line(report), created])
    return Markup(f"<header>{element('h1', report['title'])}{element('p', facts)}</header>")


def _warnings(data: DataFacts) -> Markup:
    messages = list(data["warnings"])
    skipped = len(data["skipped_images"])
    if skipped:
        messages.append(f"{count(skipped)} {'image was' if skipped == 1 else 'images were'} skipped (below).")
    if not messages:
        return Markup()
    items = joined(element("li", message) for message in messages)
    return Markup(f'<aside class="warning"><h2>Warnings</h2><ul>{items}</ul></aside>')


def _headline(report: Report) -> Markup:
    cards = []
    if report["retrieval"]:
        scores = report["retrieval"][0]
        label = f"{protocol_label(scores)}, {scores['split']}"
        cards.append(_card("mAP", percent(scores["mAP"]), label))
        cards.append(_card("Rank-1", percent(scores["cmc"].get("1")), label))
    headline = headline_convention(report["attributes"]) if report["attributes"] else None
    if headline:
        name, scores_of = headline
        accuracy, baseline = scores_of["accuracy"], scores_of["majority_baseline"]
        beside = f"{name}, majority baseline {percent(baseline)} ({points(accuracy, baseline)} points)"
        cards.append(_card("Attribute accuracy", percent(accuracy), beside, bar(accuracy, baseline)))
    return Markup(f'<div class="cards">{joined(cards)}</div>') if cards else Markup()


def _card(name: str, value: str, protocol: str, extra: Markup = Markup()) -> Markup:  # noqa: B008
    content = [element("h2", name), element("p", value, "big"), extra, element("p", protocol, "note")]
    return element("article", joined(content))


# --- tables ----------------------------------------------------------------------------------------------


def _retrieval(retrieval: Sequence[Retrieval]) -> Markup:
    if not retrieval:
        return Markup()
    ranks = ranks_shown(list(retrieval))
    headers = ["Protocol", "mAP", *(f"Rank-{rank}" for rank in ranks), "mINP", "Queries", "Gallery"]
    rows = [
        [
            _protocol(scores),
            element("strong", percent(scores["mAP"])),
            *(percent(scores["cmc"].get(rank)) for rank in ranks),
            percent(scores["mINP"]),
            _queries(scores),
            count(scores["num_gallery"]),
        ]
        for scores in retrieval
    ]
    note = "Numbers of different protocols are not comparable."
    if any(scores["num_left_out"] for scores in retrieval):
        note += " Queries without any match in the gallery are not counted."
    return section("Retrieval", table(headers, rows), _verification(retrieval), note=note)


def _protocol(scores: Retrieval) -> Markup:
    label = element("span", protocol_label(scores), title=scores["stamp"])
    return joined([label, element("small", scores["split"])])


def _queries(scores: Retrieval) -> str:
    if not scores["num_left_out"]:
        return count(scores["num_valid"])
    return f"{count(scores['num_valid'])} of {count(scores['num_queries'])}"


def _verification(retrieval: Sequence[Retrieval]) -> Markup:
    """The share of same-person pairs accepted at given false positive rates, where it was measured."""
    measured = [scores for scores in retrieval if scores["tpr_at_fpr"]]
    rates = sorted({rate for scores in measured for rate in scores["tpr_at_fpr"]}, key=float)
    if not rates:
        return Markup()
    headers = ["True positive rate", *(f"at FPR {rate}" for rate in rates)]
    rows = [[_protocol(scores), *(percent(scores["tpr_at_fpr"].get(rate)) for rate in rates)] for scores in measured]
    return table(headers, rows)


def _attributes(attributes: Attributes | None) -> Markup:
    if attributes is None:
        return Markup()
    note = (
        f"Scored on {attributes['split']}. The majority baseline answers every image with the most frequent "
        f"value of {attributes['train_split']}; the tick on a bar marks it."
    )
    conventions = table(
        ["Convention", "", "Accuracy", "Baseline", "Gain", "Images"],
        [[name, *_accuracy_cells(scores)] for name, scores in attributes["conventions"].items()],
    )
    groups = table(
        ["Attribute", "", "Accuracy", "Baseline", "Gain", "Images", "Balanced", "Macro F1"],
        [
            [
                group["name"],
                bar(group["accuracy"], group["majority_baseline"]),
                percent(group["accuracy"]),
                percent(group["majority_baseline"]),
                points(group["accuracy"], group["majority_baseline"]),
                count(group["num_images"]),
                percent(group["balanced_accuracy"]),
                percent(group["macro_f1"]),
            ]
            for group in attributes["per_group"]
        ],
    )
    binaries = [_binary_scores(name, scores) for name, scores in attributes["conventions"].items()]
    return section("Attributes", conventions, *binaries, groups, note=note)


def _accuracy_cells(scores: Convention) -> list[str]:
    accuracy, baseline = scores["accuracy"], scores["majority_baseline"]
    return [
        bar(accuracy, baseline),
        percent(accuracy),
        percent(baseline),
        points(accuracy, baseline),
        count(scores["num_images"]),
    ]


def _binary_scores(name: str, scores: Convention) -> Markup:
    if "mA" not in scores:
        return Markup()
    words = (
        f"{name}: mA {percent(scores['mA'])}; per image accuracy {percent(scores.get('instance_accuracy'))}, "
        f"precision {percent(scores.get('instance_precision'))}, "
        f"recall {percent(scores.get('instance_recall'))}, F1 {percent(scores.get('instance_f1'))}."
    )
    left_out = scores.get("columns_left_out")
    if left_out:
        words += f" Without positives and left out of mA: {', '.join(left_out)}."
    return element("p", words.replace(" %", "\u00a0%"), "note")


def _junk(junk: Junk | None) -> Markup:
    if junk is None:
        return Markup()
    auc = ABSENT if junk["auc"] is None else f"{junk['auc']:.3f}"
    words = (
        f"AUC {auc} for telling {count(junk['num_people'])} pictures of people from "
        f"{count(junk['num_junk'])} distractors and junk by the sum of squared attribute scores "
        "(0.5 is chance, 1 is perfect)."
    )
    return section("Junk score", element("p", words))


# --- training curves -------------------------------------------------------------------------------------


def _training(training: Training | None) -> Markup:
    if training is None:
        return Markup()
    best = training["best_epoch"]
    words = (
        f"{training['epochs']} epochs, {count(training['steps'])} steps in {training['minutes']:.1f} minutes "
        f"at {training['images_per_second']:.0f} images/s, seed {training['seed']}."
    )
    words += f" Best epoch by validation mAP: {best}." if best is not None else ""
    history = training["history"]
    charts = [
        chart("Loss", _losses(history)),
        chart("Validation and train accuracy, %", _accuracies(history)),
        chart("Learning rate", [Curve("learning rate", "c1", _series(history, "learning_rate"))]),
    ]
    return section("Training", Markup(f'<div class="charts">{joined(charts)}</div>'), note=words)


def _losses(history: Sequence[Epoch]) -> list[Curve]:
    names = list(dict.fromkeys(name for line in history for name in line["losses"]))
    terms = [
        Curve(name, f"c{2 + n % 3}", tuple((float(line["epoch"]), line["losses"][name]) for line in history))
        for n, name in enumerate(names)
    ]
    return [Curve("total", "c1", _series(history, "loss")), *terms]


def _accuracies(history: Sequence[Epoch]) -> list[Curve]:
    return [
        Curve("validation mAP", "c1", _series(history, "validation_mAP", 100)),
        Curve("validation attributes", "c2", _series(history, "validation_attribute_accuracy", 100)),
        Curve("train identity", "c3", _series(history, "identity_accuracy", 100)),
    ]


def _series(history: Sequence[Epoch], key: str, scale: float = 1.0) -> tuple[tuple[float, float], ...]:
    pairs = [(float(row["epoch"]), row.get(key)) for row in history]
    return tuple(
        (epoch, scale * value) for epoch, value in pairs if isinstance(value, int | float) and math.isfinite(value)
    )


# --- data and configuration ------------------------------------------------------------------------------


def _data(data: DataFacts) -> Markup:
    rows = [
        [name, count(split["images"]), count(split["identities"]), count(split["cameras"])]
        for name, split in data["splits"].items()
    ]
    where = element(
        "p", joined([element("code", data["root"]), " fingerprint ", element("code", data["fingerprint"])]), "note"
    )
    skipped = Markup()
    if data["skipped_images"]:
        listed = table(
            ["Image", "Reason"],
            [[image["name"], image["reason"]] for image in data["skipped_images"]],
            words=2,
        )
        summary = element("summary", f"Skipped images ({count(len(data['skipped_images']))})")
        skipped = element("details", joined([summary, listed]))
    return section(
        f"Data: {data['name']}",
        where,
        table(["Split", "Images", "People", "Cameras"], rows) if rows else Markup(),
        skipped,
    )


def _configuration(report: Report) -> Markup:
    plain = json.loads(json.dumps(report["config"], default=str))
    config = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True) if plain else ""
    stamps = "\n".join(scores["stamp"] for scores in report["retrieval"])
    blocks = [
        element("details", joined([element("summary", name), element("pre", content)]))
        for name, content in (("Configuration", config), ("Protocol stamps", stamps))
        if content
    ]
    hardware = report["hardware"]
    machine = f"{hardware_line(report)}, {hardware['cpu']}, {hardware['threads']} threads"
    lines = [element("p", f"{machine}. {software_line(report['software'])}.", "note")]
    return section("This run", *blocks, *lines)
