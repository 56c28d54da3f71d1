"""The model card: the README.md that is pushed to a hub together with a model."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reid_accel.files import write_text
from reid_accel.models.ibn import plain_name
from reid_accel.models.model_folder import CARD_FILE, LICENSE_FILE
from reid_accel.reporting import metrics
from reid_accel.reporting.redaction import named_folders, text_without_folders, without_folders
from reid_accel.reporting.schema import Report, count, hardware_line, software_line

NAME_PLACEHOLDER = "user/name"
"""The repository name in the card of a model that has not been pushed."""

DRAWN_TAG = "drawn-data"
"""Marks a model that was trained on no photograph of a person."""

OWN_LICENSE = "apache-2.0"
DATA_LICENSE = {"license": "other", "license_name": "terms-of-the-training-data", "license_link": LICENSE_FILE}
TASK = "image-feature-extraction"
RECOGNITION_TASK = "image-classification"
TAGS = ["person-re-identification", "image-retrieval", "pytorch", "safetensors"]
QUOTED_METRICS = ("map", "rank-1", "accuracy", "f1")
ATTRIBUTE_TAG = "pedestrian-attribute-recognition"
MOST_NAMES = 96


def write_model_card(folder: Path, report: Report, architecture: Mapping[str, Any], repo_id: str | None = None) -> None:
    """Write `folder`/README.md, and LICENSE.md where the weights fall under the terms of the training data."""
    write_text(folder / CARD_FILE, model_card(report, architecture, repo_id))
    if _license(report) == DATA_LICENSE:
        write_text(folder / LICENSE_FILE, _rendered("license.md", report=report))


def model_card(report: Report, architecture: Mapping[str, Any], repo_id: str | None = None) -> str:
    """The card as text: YAML metadata with the results as `model-index`, then Markdown.

    architecture: the content of the model's `config.json`.
    """
    return _rendered(
        "card.md",
        metadata=Markup(_metadata(report, repo_id).to_yaml()),
        name=repo_id or NAME_PLACEHOLDER,
        report=report,
        drawn=is_drawn(report),
        recognizes_only=_recognizes_attributes_only(report),
        tables=[
            *map(_markdown, metrics.retrieval_tables(report["retrieval"])),
            *map(_markdown, metrics.attribute_tables(report["attributes"])),
        ],
        splits=_markdown(metrics.split_table(report["data"])),
        warnings=[text_without_folders(warning, named_folders(report)) for warning in report["data"]["warnings"]],
        hardware=hardware_line(report),
        software=software_line(report["software"]),
        config=_yaml(report["config"]),
        architecture=_yaml(architecture),
    )


def write_imported_card(folder: Path, imported: object, file: str, backbone_file: str) -> None:
    """Write the card of imported weights: the file that they came from, its scheme, what was left out."""
    write_text(folder / CARD_FILE, _rendered("imported.md", imported=imported, file=file, backbone_file=backbone_file))


def pushed_card(card: str, repo_id: str, section: str = "") -> str:
    """The card with the repository's name in its metadata and in `from_pretrained`, and a section after that."""
    place = re.search(r"^## (?!How to load it)", card, re.MULTILINE)
    if section:
        at = place.start() if place else len(card)
        card = f"{card[:at]}{'' if place else chr(10)}{section}\n{card[at:]}"
    renamed = ModelCard(re.sub(r'from_pretrained\("[^"\n]*"\)', f'from_pretrained("{repo_id}")', card))
    metadata = renamed.data
    assert isinstance(metadata, ModelCardData)
    if metadata.model_name:
        metadata.model_name = repo_id.rpartition("/")[2]
    return str(renamed)


def is_drawn(report: Report) -> bool:
    """Whether this run was trained on drawn images only and did not start from another run's weights."""
    return report["data"]["drawn"] and not _settings(report, "model").get("weights_file")


# --- metadata --------------------------------------------------------------------------------------------


def _metadata(report: Report, repo_id: str | None) -> ModelCardData:
    results = [*_retrieval_results(report), *_attribute_results(report)]
    tags = [*TAGS, *([ATTRIBUTE_TAG] if _attributes(report) else []), *([DRAWN_TAG] if is_drawn(report) else [])]
    return ModelCardData(
        **_license(report),
        base_model=_base_model(report),
        datasets=_datasets(report),
        metrics=[name for name in QUOTED_METRICS if any(result.metric_type == name for result in results)] or None,
        library_name="reid_accel",
        pipeline_tag=RECOGNITION_TASK if _recognizes_attributes_only(report) else TASK,
        tags=tags,
        model_name=(repo_id.rpartition("/")[2] if repo_id else report["title"]) if results else None,
        eval_results=results or None,
    )


def _license(report: Report) -> dict[str, Any]:
    """The package's license if data and initial weights are the package's own, else the data's terms."""
    own = is_drawn(report) and not _settings(report, "model").get("pretrained")
    return {"license": OWN_LICENSE} if own else DATA_LICENSE


def _base_model(report: Report) -> str | None:
    """The hub's name of the ImageNet weights that training started from, if any."""
    settings = _settings(report, "model")
    if not settings.get("pretrained") or settings.get("weights_file"):
        return None
    backbone = str(settings["backbone"])
    pretrained = timm.get_pretrained_cfg(plain_name(backbone) or backbone, allow_unregistered=True)
    return pretrained.hf_hub_id if pretrained else None


def _datasets(report: Report) -> list[str]:
    """The training sets as valid hub names: letters, digits, dots and dashes."""
    also = [str(entry).partition(":")[0] for entry in _settings(report, "data").get("also", ())]
    names = [re.sub(r"[^\w.]+", "-", name).strip("-.")[:MOST_NAMES] for name in (report["data"]["title"], *also)]
    return list(dict.fromkeys(name for name in names if name))


def _recognizes_attributes_only(report: Report) -> bool:
    """Whether the model was scored on attributes of images without people."""
    return report["attributes"] is not None and "protocol" in report["attributes"]


def _settings(report: Report, section: str) -> Mapping[str, Any]:
    settings = report["config"].get(section)
    return settings if isinstance(settings, Mapping) else {}


def _attributes(report: Report) -> list[str]:
    return report["model"]["attributes"] if report["model"] else []


def _retrieval_results(report: Report) -> list[EvalResult]:
    """The headline first; without `course`, whose rank-1 is always 100 %, which metadata can't explain."""
    quoted = metrics.headline(report)
    entries = [scores for scores in report["retrieval"] if scores["protocol"] != "course"]
    entries.sort(key=lambda scores: scores is not quoted)
    return [
        result
        for scores in entries
        for result in _results(
            report,
            metrics.RETRIEVAL_METRICS,
            scores,
            task=("image-retrieval", "Person re-identification"),
            split=scores["split"],
            protocol=metrics.protocol_label(scores),
        )
    ]


def _attribute_results(report: Report) -> list[EvalResult]:
    attributes = report["attributes"]
    if attributes is None:
        return []
    quoted = attributes.get("headline")
    return [
        result
        for convention, scores in attributes["conventions"].items()
        for result in _results(
            report,
            metrics.RECOGNITION_METRICS if convention == quoted else metrics.ATTRIBUTE_METRICS,
            scores,
            task=("image-classification", "Pedestrian attribute recognition"),
            split=attributes["split"],
            protocol=attributes["protocol"] if convention == quoted else convention,
        )
    ]


def _results(
    report: Report,
    columns: Sequence[metrics.Metric],
    scores: Mapping[str, Any],
    *,
    task: tuple[str, str],
    split: str,
    protocol: str,
) -> list[EvalResult]:
    data = report["data"]
    values = [(metric.heading, metric.value(scores)) for metric in columns if metric.is_score]
    return [
        EvalResult(
            task_type=task[0],
            task_name=task[1],
            dataset_type=data["name"],
            dataset_name=f"{data['title']} ({split})",
            dataset_split=split,
            metric_type=heading.lower().replace(" ", "-"),
            metric_name=f"{heading} ({protocol})",
            metric_value=round(value, 6),
        )
        for heading, value in values
        if value is not None
    ]


# --- the page --------------------------------------------------------------------------------------------


def _rendered(template: str, **values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("reid_accel.reporting"),
        undefined=StrictUndefined,
        finalize=_escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["count"] = count
    return environment.get_template(template).render(**values)


def _escaped(value: object) -> str:
    """Text on one line, with Markdown table separators and HTML escaped."""
    if isinstance(value, Markup):
        return value
    one_line = " ".join(str(value).split())
    return one_line.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _markdown(table: metrics.ScoreTable) -> Markup:
    """A score table in Markdown with its caption above it; empty if it has no rows."""
    if not table.rows:
        return Markup()
    rule = ["---", *("---:" for _ in table.headings)]
    rows = [("; ".join((row.label, *row.details)), *row.cells) for row in table.rows]
    lines = [(table.label, *table.headings), rule, *(map(_escaped, row) for row in rows)]
    return Markup("\n".join([_escaped(table.caption), "", *(f"| {' | '.join(line)} |" for line in lines)]))


def _yaml(content: Mapping[str, Any]) -> Markup:
    """Settings as a fenced block of YAML; empty if there are none."""
    plain = json.loads(json.dumps(content, default=str))
    if not plain:
        return Markup()
    text = yaml.safe_dump(without_folders(plain), sort_keys=False, allow_unicode=True)
    fence = "`" * max(4, 1 + max(map(len, re.findall("`+", text)), default=0))
    return Markup(f"{fence}yaml\n{text}{fence}")
