"""`report.html`: one file that shows a run to a person, without scripts and without anything from outside.

Whatever comes from the run (titles, file names, warnings, the configuration) is escaped by `_text`; only
`Markup`, which this module builds itself, is written as it stands.
"""

import base64
import html
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from reid_accel.files import write_text
from reid_accel.reporting.report import (
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

PICTURE_HEIGHT_PX = 192


@dataclass(frozen=True)
class Shown:
    """One picture of a rank list; `distance` and `correct` are None for the query itself."""

    image_HWC: np.ndarray
    name: str
    pid: int
    camera: int
    distance: float | None
    correct: bool | None


@dataclass(frozen=True)
class RankList:
    """A query, what the model ranked first for it, and its average precision (0 to 1)."""

    query: Shown
    matches: tuple[Shown, ...]
    average_precision: float


class Markup(str):
    """HTML that is ready to be written; every other string is escaped first."""


@dataclass(frozen=True)
class Curve:
    """A line of a chart: (epoch, value) pairs; `style` picks colour and dashes."""

    name: str
    style: str
    points: tuple[tuple[float, float], ...]


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
        _rank_lists("Best queries", "The queries with the highest average precision.", best),
        _rank_lists("Worst queries", "The queries with the lowest average precision.", worst),
        _data(report["data"]),
        _configuration(report),
    ]
    title = _text(report["title"])
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
{_joined(sections, newline=True)}
</main>
</body>
</html>
"""


# --- building blocks -------------------------------------------------------------------------------------


def _text(value: object) -> Markup:
    return value if isinstance(value, Markup) else Markup(html.escape(str(value), quote=True))


def _joined(parts: Iterable[str], newline: bool = False) -> Markup:
    return Markup(("\n" if newline else "").join(_text(part) for part in parts if part))


def _element(tag: str, content: object, css_class: str = "", title: str = "") -> Markup:
    attributes = f' class="{_text(css_class)}"' if css_class else ""
    attributes += f' title="{_text(title)}"' if title else ""
    return Markup(f"<{tag}{attributes}>{_text(content)}</{tag}>")


def _section(title: str, *content: str, note: str = "") -> Markup:
    heading = _joined([_element("h2", title), _element("p", note, "note") if note else ""])
    return Markup(f"<section>{heading}{_joined(content, newline=True)}</section>")


def _table(headers: Sequence[str], rows: Sequence[Sequence[object]], words: int = 1) -> Markup:
    """The first `words` columns hold words, the others numbers."""
    head = _joined(_element("th", name, "" if index < words else "n") for index, name in enumerate(headers))
    body = _joined(
        _element(
            "tr",
            _joined(
                _element("th" if index == 0 else "td", cell, "" if index < words else "n")
                for index, cell in enumerate(row)
            ),
        )
        for row in rows
    )
    return Markup(f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def _bar(fraction: float, baseline: float) -> Markup:
    """How far a fraction reaches, with a tick where the baseline stands."""
    reach, tick = (f"{100 * min(max(value, 0.0), 1.0):.1f}%" for value in (fraction, baseline))
    return Markup(f'<span class="bar"><i style="width:{reach}"></i><b style="left:{tick}"></b></span>')


# --- head of the page ------------------------------------------------------------------------------------


def _masthead(report: Report) -> Markup:
    created = report["created"].replace("T", " ")[:16]
    facts = " · ".join([report["data"]["name"], hardware_line(report), created])
    return Markup(f"<header>{_element('h1', report['title'])}{_element('p', facts)}</header>")


def _warnings(data: DataFacts) -> Markup:
    messages = list(data["warnings"])
    skipped = len(data["skipped_images"])
    if skipped:
        messages.append(f"{count(skipped)} {'image was' if skipped == 1 else 'images were'} skipped (below).")
    if not messages:
        return Markup()
    items = _joined(_element("li", message) for message in messages)
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
        cards.append(_card("Attribute accuracy", percent(accuracy), beside, _bar(accuracy, baseline)))
    return Markup(f'<div class="cards">{_joined(cards)}</div>') if cards else Markup()


def _card(name: str, value: str, protocol: str, extra: Markup = Markup()) -> Markup:  # noqa: B008
    content = [_element("h2", name), _element("p", value, "big"), extra, _element("p", protocol, "note")]
    return _element("article", _joined(content))


# --- tables ----------------------------------------------------------------------------------------------


def _retrieval(retrieval: Sequence[Retrieval]) -> Markup:
    if not retrieval:
        return Markup()
    ranks = ranks_shown(list(retrieval))
    headers = ["Protocol", "mAP", *(f"Rank-{rank}" for rank in ranks), "mINP", "Queries", "Gallery"]
    rows = [
        [
            _protocol(scores),
            _element("strong", percent(scores["mAP"])),
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
    return _section("Retrieval", _table(headers, rows), _verification(retrieval), note=note)


def _protocol(scores: Retrieval) -> Markup:
    label = _element("span", protocol_label(scores), title=scores["stamp"])
    return _joined([label, _element("small", scores["split"])])


def _queries(scores: Retrieval) -> str:
    if not scores["num_left_out"]:
        return count(scores["num_counted"])
    return f"{count(scores['num_counted'])} of {count(scores['num_queries'])}"


def _verification(retrieval: Sequence[Retrieval]) -> Markup:
    """The share of same-person pairs accepted at given false positive rates, where it was measured."""
    measured = [scores for scores in retrieval if scores["tpr_at_fpr"]]
    rates = sorted({rate for scores in measured for rate in scores["tpr_at_fpr"]}, key=float)
    if not rates:
        return Markup()
    headers = ["True positive rate", *(f"at FPR {rate}" for rate in rates)]
    rows = [
        [protocol_label(scores), *(percent(scores["tpr_at_fpr"].get(rate)) for rate in rates)] for scores in measured
    ]
    return _table(headers, rows)


def _attributes(attributes: Attributes | None) -> Markup:
    if attributes is None:
        return Markup()
    note = (
        f"Scored on {attributes['split']}. The majority baseline answers every image with the most frequent "
        f"value of {attributes['train_split']}; the tick on a bar marks it."
    )
    conventions = _table(
        ["Convention", "", "Accuracy", "Baseline", "Gain", "Images"],
        [[name, *_accuracy_cells(scores)] for name, scores in attributes["conventions"].items()],
    )
    groups = _table(
        ["Attribute", "", "Accuracy", "Baseline", "Gain", "Images", "Balanced", "Macro F1"],
        [
            [
                group["name"],
                _bar(group["accuracy"], group["majority_baseline"]),
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
    return _section("Attributes", conventions, *binaries, groups, note=note)


def _accuracy_cells(scores: Convention) -> list[str]:
    accuracy, baseline = scores["accuracy"], scores["majority_baseline"]
    return [
        _bar(accuracy, baseline),
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
    return _element("p", words.replace(" %", "\u00a0%"), "note")


def _junk(junk: Junk | None) -> Markup:
    if junk is None:
        return Markup()
    auc = ABSENT if junk["auc"] is None else f"{junk['auc']:.3f}"
    words = (
        f"AUC {auc} for telling {count(junk['num_people'])} pictures of people from "
        f"{count(junk['num_junk'])} distractors and junk by the sum of squared attribute scores "
        "(0.5 is chance, 1 is perfect)."
    )
    return _section("Junk score", _element("p", words))


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
        _chart("Loss", _losses(history)),
        _chart("Validation and train accuracy, %", _accuracies(history)),
        _chart("Learning rate", [Curve("learning rate", "c1", _series(history, "learning_rate"))]),
    ]
    return _section("Training", Markup(f'<div class="charts">{_joined(charts)}</div>'), note=words)


def _losses(history: Sequence[Epoch]) -> list[Curve]:
    return [
        Curve("total", "c1", _series(history, "train_loss")),
        Curve("identity", "c2", _series(history, "identity_loss")),
        Curve("attributes", "c3", _series(history, "attribute_loss")),
    ]


def _accuracies(history: Sequence[Epoch]) -> list[Curve]:
    return [
        Curve("validation mAP", "c1", _series(history, "validation_mAP", 100)),
        Curve("validation attributes", "c2", _series(history, "validation_attribute_accuracy", 100)),
        Curve("train, attributes + identity", "c3", _series(history, "course_accuracy", 100)),
    ]


def _series(history: Sequence[Epoch], key: str, scale: float = 1.0) -> tuple[tuple[float, float], ...]:
    pairs = [(float(row["epoch"]), row.get(key)) for row in history]
    return tuple(
        (epoch, scale * value) for epoch, value in pairs if isinstance(value, int | float) and math.isfinite(value)
    )


WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 190, 44, 8, 10, 24


def _chart(title: str, curves: Sequence[Curve]) -> Markup:
    """A line chart as SVG with its legend; nothing where there is no value at all."""
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return Markup()
    epochs = [x for curve in curves for x, _ in curve.points]
    values = [y for curve in curves for _, y in curve.points]
    x_low, x_high = min(epochs), max(epochs)
    ticks = _nice_ticks(min(0.0, *values), max(values))

    def x_px(x: float) -> float:
        share = 0.5 if x_high == x_low else (x - x_low) / (x_high - x_low)
        return LEFT + 6 + share * (WIDTH - LEFT - RIGHT - 12)

    def y_px(y: float) -> float:
        return TOP + (1 - (y - ticks[0]) / (ticks[-1] - ticks[0])) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_px(tick):.1f}" y2="{y_px(tick):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y_px(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in ticks
    ]
    parts += [
        f'<text x="{x_px(epoch):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{epoch:g}</text>'
        for epoch in _epoch_ticks(x_low, x_high)
    ]
    for curve in curves:
        path = " ".join(f"{x_px(x):.1f},{y_px(y):.1f}" for x, y in curve.points)
        parts.append(f'<polyline class="{curve.style}" points="{path}"/>')
        if len(curve.points) == 1:
            x, y = curve.points[0]
            parts.append(f'<circle class="{curve.style}" cx="{x_px(x):.1f}" cy="{y_px(y):.1f}" r="3"/>')
    return _figure(title, curves, parts)


def _figure(title: str, curves: Sequence[Curve], parts: Sequence[str]) -> Markup:
    described = "; ".join(f"{curve.name} ends at {curve.points[-1][1]:.3g}" for curve in curves)
    legend = _joined(
        Markup(
            f'<li><svg viewBox="0 0 22 8" aria-hidden="true"><line class="{curve.style}" x1="1" x2="21" '
            f'y1="4" y2="4"/></svg>{_text(curve.name)} <b>{curve.points[-1][1]:.3g}</b></li>'
        )
        for curve in (curves if len(curves) > 1 else ())
    )
    return Markup(
        f'<figure class="chart"><figcaption>{_text(title)}</figcaption><ul class="legend">{legend}</ul>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{_text(title)} by epoch: '
        f'{_text(described)}">{"".join(parts)}</svg></figure>'
    )


def _nice_ticks(low: float, high: float) -> list[float]:
    """Three to six round values that enclose `low` and `high`.

    >>> _nice_ticks(0.0, 7.3)
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    span = (high - low) or abs(high) or 1.0
    magnitude = 10.0 ** math.floor(math.log10(span / 4))
    step = next(factor * magnitude for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * magnitude >= span / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _epoch_ticks(low: float, high: float) -> list[float]:
    """The first and last epoch and a few whole ones between, none so near the last that they touch."""
    step = max(1, math.ceil((high - low) / 6))
    inner = [low + index * step for index in range(1 + int((high - low) // step))]
    return [epoch for epoch in inner if high - epoch >= 0.7 * step] + [high]


# --- pictures --------------------------------------------------------------------------------------------


def _rank_lists(title: str, note: str, lists: Sequence[RankList]) -> Markup:
    if not lists:
        return Markup()
    keys = (("query", "query"), ("right", "✓ same person"), ("wrong", "✗ someone else"))
    legend = _joined(Markup(f'<span><span class="sample {kind}"></span>{_text(words)}</span>') for kind, words in keys)
    rows = [_rank_list(rank_list) for rank_list in lists]
    return _section(title, _element("p", legend, "note keys"), *rows, note=note)


def _rank_list(rank_list: RankList) -> Markup:
    query = rank_list.query
    right = sum(match.correct is True for match in rank_list.matches)
    heading = Markup(
        f"<h3>{_text(query.name)} <span>AP {percent(rank_list.average_precision)}, "
        f"{right} of the first {len(rank_list.matches)} right</span></h3>"
    )
    pictures = _joined(_picture(shown) for shown in (query, *rank_list.matches))
    return Markup(f'<div class="list">{heading}<div class="strip">{pictures}</div></div>')


def _picture(shown: Shown) -> Markup:
    kind, mark = {None: ("query", "query"), True: ("right", "✓"), False: ("wrong", "✗")}[shown.correct]
    distance = "" if shown.distance is None else f"{shown.distance:#.3g}"
    details = f"{shown.name}, person {shown.pid}, camera {shown.camera}"
    details += f", distance {distance}" if distance else ""
    caption = _joined([_element("b", mark), _element("span", f"cam {shown.camera}"), _element("i", distance)])
    spoken = {"query": "query", "right": "same person", "wrong": "someone else"}[kind]
    return Markup(
        f'<figure class="{kind}" title="{_text(details)}"><img src="{_data_uri(shown.image_HWC)}" '
        f'alt="{_text(spoken)}: {_text(details)}"><figcaption>{caption}</figcaption></figure>'
    )


def _data_uri(image_HWC: np.ndarray) -> str:
    """A uint8 picture, grey or RGB, as a JPEG of at most PICTURE_HEIGHT_PX inside the page."""
    picture = Image.fromarray(image_HWC).convert("RGB")
    picture.thumbnail((4 * PICTURE_HEIGHT_PX, PICTURE_HEIGHT_PX))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


# --- data and configuration ------------------------------------------------------------------------------


def _data(data: DataFacts) -> Markup:
    rows = [
        [name, count(split["images"]), count(split["identities"]), count(split["cameras"])]
        for name, split in data["splits"].items()
    ]
    where = _element(
        "p", _joined([_element("code", data["root"]), " fingerprint ", _element("code", data["fingerprint"])]), "note"
    )
    skipped = Markup()
    if data["skipped_images"]:
        table = _table(
            ["Image", "Reason"],
            [[image["name"], image["reason"]] for image in data["skipped_images"]],
            words=2,
        )
        summary = _element("summary", f"Skipped images ({count(len(data['skipped_images']))})")
        skipped = _element("details", _joined([summary, table]))
    return _section(
        f"Data: {data['name']}",
        where,
        _table(["Split", "Images", "People", "Cameras"], rows) if rows else Markup(),
        skipped,
    )


def _configuration(report: Report) -> Markup:
    plain = json.loads(json.dumps(report["config"], default=str))
    config = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True) if plain else ""
    stamps = "\n".join(scores["stamp"] for scores in report["retrieval"])
    blocks = [
        _element("details", _joined([_element("summary", name), _element("pre", content)]))
        for name, content in (("Configuration", config), ("Protocol stamps", stamps))
        if content
    ]
    hardware = report["hardware"]
    machine = f"{hardware_line(report)}, {hardware['cpu']}, {hardware['threads']} threads"
    lines = [_element("p", f"{machine}. {software_line(report['software'])}.", "note")]
    return _section("This run", *blocks, *lines)


STYLE = """
:root { color-scheme: light dark;
  --paper: #fbfbf9; --card: #fff; --ink: #1c2024; --soft: #5d656d; --line: #e3e4e0; --track: #e9eae6;
  --accent: #24618f; --right: #16794a; --wrong: #c2362b; --query: #8a929a; --warn: #8a5a00;
  --warn-paper: #fdf5e3;
  --c1: #24618f; --c2: #b4560f; --c3: #4d8a3f; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #15181b; --card: #1c2024; --ink: #e6e8ea; --soft: #9aa3ab; --line: #2e343a; --track: #2e343a;
  --accent: #7db5e0; --right: #4cbf86; --wrong: #f0746a; --query: #78828b; --warn: #e6b65c;
  --warn-paper: #262219;
  --c1: #7db5e0; --c2: #eb9a5b; --c3: #93c985; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%; }
main { max-width: 1080px; margin: 0 auto; padding: 56px 32px 96px; }
header { margin-bottom: 32px; } header p { color: var(--soft); margin: 0; }
h1 { font-size: 32px; line-height: 1.2; font-weight: 650; letter-spacing: -.015em; margin: 0 0 8px;
  overflow-wrap: anywhere; }
h2 { font-size: 20px; font-weight: 620; letter-spacing: -.005em; margin: 0 0 4px; }
h3 { font-size: 14px; font-weight: 600; margin: 0 0 8px; overflow-wrap: anywhere; }
h3 span { font-weight: 400; color: var(--soft); margin-left: 8px; }
p { margin: 0 0 12px; max-width: 76ch; text-wrap: pretty; }
code, pre { font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; }
code { overflow-wrap: anywhere; }
section { margin-top: 56px; } .note { color: var(--soft); font-size: 14px; max-width: 96ch; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 16px; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 20px 22px; }
article h2 { font-size: 14px; font-weight: 550; color: var(--soft); letter-spacing: 0; }
article .note { margin: 0; } .big { font-size: 44px; line-height: 1.15; font-weight: 620;
  letter-spacing: -.025em; margin: 0 0 10px; }
article .bar { margin: 0 0 14px; width: 100%; }
.warning { background: var(--warn-paper); border-left: 3px solid var(--warn); border-radius: 0 8px 8px 0;
  padding: 14px 20px; margin: 0 0 24px; font-size: 14px; }
.warning h2 { font-size: 14px; color: var(--warn); } .warning ul { margin: 0; padding-left: 18px; }
.warning li { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 12px 0 20px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap;
  font-weight: 400; vertical-align: middle; }
tbody th { white-space: normal; min-width: 6.5em; }
small { display: block; font-size: 13px; color: var(--soft); }
thead th { color: var(--soft); font-size: 13px; border-bottom-color: var(--query); }
th.n, td.n { text-align: right; padding: 7px 0 7px 14px; } strong { font-weight: 650; }
.bar { display: inline-block; position: relative; width: 120px; height: 6px; border-radius: 3px;
  background: var(--track); vertical-align: middle; }
.bar i { position: absolute; inset: 0 auto 0 0; border-radius: 3px; background: var(--accent); }
.bar b { position: absolute; top: -4px; width: 2px; height: 14px; margin-left: -1px; background: var(--ink); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 32px 40px;
  margin-top: 20px; }
.chart { margin: 0; display: flex; flex-direction: column; }
.chart figcaption { font-size: 14px; font-weight: 600; }
.chart > svg { width: 100%; height: auto; margin-top: auto; overflow: visible; }
.chart text { font-size: 11px; fill: var(--soft); } .grid { stroke: var(--line); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0 16px; margin: 2px 0 6px; padding: 0;
  font-size: 13px; color: var(--soft); } .legend b { color: var(--ink); font-weight: 550; }
.legend svg { width: 22px; height: 8px; margin-right: 6px; }
polyline, line.c1, line.c2, line.c3 { fill: none; stroke-width: 2; stroke-linejoin: round; }
.c1 { stroke: var(--c1); } .c2 { stroke: var(--c2); stroke-dasharray: 6 3; }
.c3 { stroke: var(--c3); stroke-dasharray: 2 3; } circle { fill: var(--card); stroke-width: 2; }
.keys { display: flex; flex-wrap: wrap; gap: 4px 20px; } .sample { display: inline-block; width: 14px;
  height: 14px; border: 3px solid var(--query); border-radius: 3px; margin: 0 7px -2px 0; }
.sample.right { border-color: var(--right); } .sample.wrong { border-color: var(--wrong); }
.list { margin: 20px 0 26px; }
.strip { display: flex; gap: 8px; overflow-x: auto; padding-bottom: 6px; }
.strip figure { margin: 0; flex: 0 0 auto; width: 80px; } .strip .query { position: sticky; left: 0;
  width: 96px; padding-right: 16px; background: var(--paper); }
.strip img { display: block; width: 80px; height: 148px; object-fit: cover; border: 4px solid var(--query);
  border-radius: 6px; background: var(--track); }
.right img { border-color: var(--right); } .wrong img { border-color: var(--wrong); border-style: solid; }
.strip figcaption { display: grid; grid-template-columns: auto 1fr; column-gap: 6px; font-size: 12px;
  line-height: 1.35; color: var(--soft); margin-top: 4px; }
.strip figcaption b { font-weight: 700; font-size: 13px; }
.right b { color: var(--right); } .wrong b { color: var(--wrong); }
.strip figcaption i { font-style: normal; grid-column: 2; } .query figcaption span { grid-column: 1 / -1; }
details { border-top: 1px solid var(--line); padding: 10px 0; } summary { cursor: pointer; font-weight: 550; }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 14px 16px; margin: 12px 0 0; }
@media (max-width: 640px) { main { padding: 28px 18px 64px; } h1 { font-size: 25px; }
  .big { font-size: 38px; } section { margin-top: 42px; } td .bar { width: 72px; }
  h3 span { display: block; margin: 0; }
  th, td { padding-right: 10px; } th.n, td.n { padding-left: 8px; }
  .strip figure, .strip img { width: 68px; } .strip img { height: 126px; } .strip .query { width: 80px;
  padding-right: 12px; } }
@media print { .scroll, .strip { overflow: visible; flex-wrap: wrap; } section { break-inside: avoid-page; } }
"""
