"""The score tables of a report: a metric added here is shown in the terminal, on the page and on the card."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reid_accel.errors import listed
from reid_accel.reporting.schema import (
    Attributes,
    Convention,
    DataFacts,
    Junk,
    Report,
    Retrieval,
    count,
    percent,
    points,
    precise_percent,
    split_pair,
)

PROTOCOL_NOTES = {
    "course": "the query is in the gallery and is its own first hit",
    "market1501, no camera rule": "images of the query's own camera count, so scores are higher than by market1501",
    "market1501, tracklet rule": "only images of the query's own tracklet don't count, so scores are higher than by "
    "market1501",
}
ATTRIBUTE_NAMES = {
    "clothes": "type of lower-body clothing",
    "down": "length of lower-body clothing",
    "up": "sleeve length",
    "hair": "hair length",
    "upper_color": "upper-body color",
    "lower_color": "lower-body color",
}

Scores = Mapping[str, Any]


@dataclass(frozen=True)
class Metric:
    """A column of a score table; left out if no row has a value."""

    heading: str
    value: Callable[[Scores], float | None]
    text: Callable[[float | None], str] = percent
    is_score: bool = True
    """Part of the card's `model-index`; counts and differences are not."""


def _item(*keys: str) -> Callable[[Scores], float | None]:
    """The getter of a nested value that may be absent."""

    def value(scores: Scores) -> float | None:
        found: Any = scores
        for key in keys:
            found = found.get(key) if found is not None else None
        return None if found is None else float(found)

    return value


RETRIEVAL_METRICS = (
    Metric("mAP", _item("mAP"), precise_percent),
    *(Metric(f"rank-{rank}", _item("cmc", rank)) for rank in ("1", "5", "10", "20")),
    Metric("mINP", _item("mINP")),
    Metric("queries", _item("num_valid"), count, is_score=False),
    Metric("gallery", _item("num_gallery"), count, is_score=False),
)
VERIFICATION_METRICS = tuple(
    Metric(f"TPR at FPR {rate}", _item("tpr_at_fpr", rate)) for rate in ("1e-4", "1e-3", "1e-2")
)
ATTRIBUTE_METRICS = (
    Metric("accuracy", _item("accuracy"), precise_percent),
    Metric("majority baseline", _item("majority_baseline"), precise_percent),
    Metric("gain", lambda scores: scores["accuracy"] - scores["majority_baseline"], points, is_score=False),
    Metric("balanced accuracy", _item("balanced_accuracy")),
    Metric("macro F1", _item("macro_f1")),
    Metric("mA", _item("mA"), precise_percent),
    Metric("images", _item("num_images"), count, is_score=False),
)
SPLIT_COUNTS = tuple(
    Metric(heading, _item(key), count, is_score=False)
    for heading, key in (("images", "images"), ("people", "identities"), ("cameras", "cameras"))
)
INSTANCE_METRICS = tuple(
    Metric(f"instance {name}", _item(f"instance_{name.lower()}")) for name in ("accuracy", "precision", "recall", "F1")
)
RECOGNITION_METRICS = (
    Metric("mA", _item("mA"), precise_percent),
    *(
        Metric(name, _item(f"instance_{name.lower()}"), precise_percent)
        for name in ("accuracy", "precision", "recall", "F1")
    ),
    Metric("images", _item("num_images"), count, is_score=False),
)
"""The five scores that the literature on attribute recognition gives."""


@dataclass(frozen=True)
class Row:
    """A row of a score table as text; details are smaller lines under its label."""

    label: str
    cells: tuple[str, ...]
    details: tuple[str, ...] = ()
    stamp: str = ""
    share: tuple[float, float] | None = None
    """Accuracy and majority baseline, if both exist."""

    @property
    def is_below_baseline(self) -> bool:
        return self.share is not None and self.share[0] < self.share[1]


@dataclass(frozen=True)
class ScoreTable:
    """A table as text: `label` heads the first column, `headings` the columns of numbers."""

    label: str
    caption: str
    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    is_brief: bool = True
    """Short enough for the terminal."""

    @property
    def has_shares(self) -> bool:
        return any(row.share is not None for row in self.rows)


def retrieval_tables(retrieval: Sequence[Retrieval]) -> list[ScoreTable]:
    """Ranking scores and, if measured, verification scores; one row per protocol and split."""
    caption = "Scores of different protocols are not comparable."
    tables = [
        _table("Retrieval", caption, RETRIEVAL_METRICS, retrieval, _retrieval_row),
        _table(
            "Verification",
            "Share of same-person pairs accepted (TPR) at a given share of wrong pairs accepted (FPR).",
            VERIFICATION_METRICS,
            [scores for scores in retrieval if scores["tpr_at_fpr"]],
            _retrieval_row,
            is_brief=False,
        ),
    ]
    return [table for table in tables if table.rows]


def attribute_tables(attributes: Attributes | None) -> list[ScoreTable]:
    """Accuracy by convention, accuracy by attribute, and scores per image, each with its majority baseline."""
    if attributes is None:
        return []
    conventions = [{"name": name, **scores} for name, scores in attributes["conventions"].items()]
    instances = [scores for scores in conventions if "instance_f1" in scores]
    caption = f"Scored on {attributes['split']}. Majority baseline: predict the most frequent value of the "
    caption += f"{attributes['train_split']} images for every image."
    quoted = headline_convention(attributes)
    tables = [
        _table(
            "Recognition",
            "The scores of the literature on attribute recognition (PAR): mA is the mean over attributes, the others "
            "are averaged over images.",
            RECOGNITION_METRICS,
            [{"name": attributes["protocol"], **quoted[1]}] if "protocol" in attributes else [],
            _instance_row,
        ),
        _table("Convention", caption, ATTRIBUTE_METRICS, conventions, _attribute_row),
        _table(
            "Attribute",
            f"Each attribute, scored on {attributes['split']}.",
            ATTRIBUTE_METRICS,
            attributes["per_group"],
            _group_row,
        ),
        _table(
            "Per image",
            "Instance-based scores of the yes/no attributes: accuracy, precision, recall and F1, averaged over images.",
            INSTANCE_METRICS,
            instances if "protocol" not in attributes else [],
            _instance_row,
            is_brief=False,
        ),
    ]
    return [table for table in tables if table.rows]


def split_table(data: DataFacts) -> ScoreTable:
    """The number of images, people and cameras of each split."""
    splits = [{"name": name, **counts} for name, counts in data["splits"].items()]
    return _table("Split", "Size of the data set.", SPLIT_COUNTS, splits, lambda row, cells: Row(row["name"], cells))


def _table(
    label: str,
    caption: str,
    metrics: Sequence[Metric],
    scores: Iterable[Scores],
    row: Callable[[Scores, tuple[str, ...]], Row],
    is_brief: bool = True,
) -> ScoreTable:
    entries = list(scores)
    shown = [metric for metric in metrics if any(metric.value(entry) is not None for entry in entries)]
    rows = tuple(row(entry, tuple(metric.text(metric.value(entry)) for metric in shown)) for entry in entries)
    return ScoreTable(label, caption, tuple(metric.heading for metric in shown), rows, is_brief)


def _retrieval_row(scores: Scores, cells: tuple[str, ...]) -> Row:
    left_out = scores["num_left_out"]
    details = [scores["split"], PROTOCOL_NOTES.get(scores["protocol"], "")]
    details.append(f"{count(left_out)} queries without a match left out" if left_out else "")
    return Row(protocol_label(scores), cells, tuple(filter(None, details)), scores["stamp"])


def _attribute_row(scores: Scores, cells: tuple[str, ...]) -> Row:
    return Row(scores["name"], cells, share=(scores["accuracy"], scores["majority_baseline"]))


def _group_row(scores: Scores, cells: tuple[str, ...]) -> Row:
    return _attribute_row({**scores, "name": attribute_name(scores["name"])}, cells)


def _instance_row(scores: Scores, cells: tuple[str, ...]) -> Row:
    left_out = scores["columns_left_out"]
    return Row(scores["name"], cells, (f"mA leaves out {listed(left_out)}: only one value occurs",) if left_out else ())


def attribute_name(name: str) -> str:
    """An attribute's display name.

    >>> attribute_name("upper_color"), attribute_name("shoe_color")
    ('upper-body color', 'shoe color')
    """
    return ATTRIBUTE_NAMES.get(name, name.replace("_", " "))


def protocol_label(scores: Scores) -> str:
    """How a retrieval score was computed: protocol, average precision, metric, and post-processing.

    >>> protocol_label({"protocol": "market1501", "average_precision": "standard", "metric": "cosine",
    ...                 "rerank": None, "query_expansion": None, "flip": False, "crops": 1})
    'market1501, ap=standard, cosine'
    >>> protocol_label({"protocol": "market1501", "average_precision": "standard", "metric": "cosine",
    ...                 "rerank": None, "query_expansion": None, "flip": True, "crops": 5})
    'market1501, ap=standard, cosine, flip-averaged, 5 crops averaged'
    """
    parts = [scores["protocol"], f"ap={scores['average_precision']}", scores["metric"]]
    if scores["flip"]:
        parts.append("flip-averaged")
    if scores["crops"] > 1:
        parts.append(f"{scores['crops']} crops averaged")
    if scores["rerank"]:
        parts.append(f"re-ranked: {scores['rerank']}")
    if scores["query_expansion"]:
        parts.append(f"query expansion: {scores['query_expansion']}")
    return ", ".join(parts)


def headline(report: Report) -> Retrieval | None:
    """The scores to quote: those of query and gallery (`market1501`, or `no camera rule`), else `course-strict`.

    Never `course`, which counts the query itself as a hit, and never re-ranked or query-expanded scores.
    """
    plain = [scores for scores in report["retrieval"] if not scores["rerank"] and not scores["query_expansion"]]
    tested = [scores for scores in plain if scores["split"] == split_pair("query", "gallery")]
    strict = [scores for scores in plain if scores["protocol"] == "course-strict"]
    others = [scores for scores in plain if scores["protocol"] != "course"]
    return next(iter([*tested, *strict, *others]), None)


def headline_convention(attributes: Attributes) -> tuple[str, Convention]:
    """The attribute scores to quote: those named as the headline, else the mean over groups, the first convention."""
    conventions = attributes["conventions"]
    name = attributes.get("headline") or next(iter(conventions))
    return name, conventions[name]


def recognition_sentence(attributes: Attributes) -> str:
    """The five scores of attribute recognition in one line."""
    _, scores = headline_convention(attributes)
    metrics = (metric for metric in RECOGNITION_METRICS if metric.is_score)
    return ", ".join(f"{metric.heading} {percent(metric.value(scores))}" for metric in metrics)


def recognition_cards(attributes: Attributes) -> list[tuple[str, str]]:
    """The headline of attribute recognition: mA and F1 as text."""
    _, scores = headline_convention(attributes)
    return [(m.heading, m.text(m.value(scores))) for m in RECOGNITION_METRICS if m.heading in ("mA", "F1")]


def junk_sentence(junk: Junk) -> str:
    """How well attribute scores separate people from distractors and junk."""
    auc = "–" if junk["auc"] is None else f"{junk['auc']:.3f}"
    return (
        f"AUC {auc} for separating {count(junk['num_people'])} images of people from {count(junk['num_junk'])} "
        "distractors and junk images by the sum of squared attribute scores (0.5: chance, 1: perfect)."
    )
