"""`report.html`: one self-contained file about a run, without scripts."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from reid_accel.files import write_text
from reid_accel.reporting import metrics, schema
from reid_accel.reporting.html.curves import Chart, Curve, chart
from reid_accel.reporting.html.pictures import RankList, without_ties
from reid_accel.reporting.schema import Epoch, Report, Training

TEMPLATES = Environment(
    loader=PackageLoader("reid_accel.reporting"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {"percent": schema.percent, "points": schema.points, "count": schema.count}


def write_html(path: Path, report: Report, best: Sequence[RankList], worst: Sequence[RankList]) -> None:
    """Write the page of one run."""
    write_text(path, render(report, best, worst))


def render(report: Report, best: Sequence[RankList], worst: Sequence[RankList]) -> str:
    """The page as text: headline, tables, curves, rank lists, data, configuration."""
    charts = training_charts(report["training"])
    quoted = report["attributes"]
    recognition = metrics.recognition_cards(quoted) if quoted and "protocol" in quoted else []
    return TEMPLATES.get_template("page.html").render(
        report=report,
        headline=metrics.headline(report),
        protocol_label=metrics.protocol_label,
        convention=metrics.headline_convention(report["attributes"]) if report["attributes"] else None,
        retrieval=metrics.retrieval_tables(report["retrieval"]),
        attributes=metrics.attribute_tables(report["attributes"]),
        junk=metrics.junk_sentence(report["junk"]) if report["junk"] else None,
        charts=charts,
        recognition=recognition,
        best_by=_validation_score(report["training"]["history"]) if report["training"] else None,
        num_styles=max((len(each.curves) for each in charts), default=0),
        best=without_ties(best),
        best_are_ties=bool(best) and all(ranked.average_precision == 1 for ranked in best),
        worst=worst,
        splits=metrics.split_table(report["data"]),
        config=_yaml(report["config"]),
        hardware=schema.hardware_line(report),
        software=schema.software_line(report["software"]),
    )


def training_charts(training: Training | None) -> list[Chart]:
    """Losses, accuracies and learning rate over the epochs; charts without values are left out."""
    if training is None:
        return []
    history = training["history"]
    charts = (
        chart("Loss", "loss", _losses(history)),
        chart("Accuracy", "%", _accuracies(history)),
        chart("Learning rate", "learning rate", [Curve("learning rate", series(history, "learning_rate"))]),
    )
    return [drawn for drawn in charts if drawn is not None]


def _losses(history: Sequence[Epoch]) -> list[Curve]:
    """The loss and its weighted terms."""
    names = dict.fromkeys(name for line in history for name in line["losses"])
    terms = [Curve(name, _finite((line["epoch"], line["losses"].get(name)) for line in history)) for name in names]
    return [Curve("total", series(history, "loss")), *terms]


def _validation_score(history: Sequence[Epoch]) -> str:
    """The name of the score that chooses the best epoch."""
    return "validation mA" if any("validation_mA" in line for line in history) else _validation_mAP(history)


def _validation_mAP(history: Sequence[Epoch]) -> str:
    """The name of the validation score, with its protocol."""
    protocols = dict.fromkeys(line["validation_protocol"] for line in history if "validation_protocol" in line)
    return f"validation mAP ({', '.join(protocols)})"


def _accuracies(history: Sequence[Epoch]) -> list[Curve]:
    return [
        Curve(_validation_mAP(history), series(history, "validation_mAP", 100)),
        Curve("validation mA", series(history, "validation_mA", 100)),
        Curve("validation F1", series(history, "validation_F1", 100)),
        Curve("validation attributes", series(history, "validation_attribute_accuracy", 100)),
        Curve("train identity", series(history, "identity_accuracy", 100)),
        Curve("train attributes", series(history, "attribute_accuracy", 100)),
    ]


def series(history: Sequence[Epoch], key: str, scale: float = 1.0) -> tuple[tuple[float, float], ...]:
    """(epoch, scaled value) for each finite value of a history."""
    return tuple((epoch, scale * value) for epoch, value in _finite((line["epoch"], line.get(key)) for line in history))


def _finite(points: Iterable[tuple[float, Any]]) -> tuple[tuple[float, float], ...]:
    return tuple((x, y) for x, y in points if isinstance(y, int | float) and math.isfinite(y))


def _yaml(config: dict[str, Any]) -> str:
    plain = json.loads(json.dumps(config, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True) if plain else ""
