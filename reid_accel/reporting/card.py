"""The model card: the README.md that goes to a hub with a model and says what it is and is not for."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from reid_accel.files import write_text
from reid_accel.reporting.schema import (
    Attributes,
    Report,
    Retrieval,
    convention_rows,
    count,
    hardware_line,
    percent,
    protocol_label,
    ranks_shown,
    software_line,
)

CARD_FILE = "README.md"
NAME_PLACEHOLDER = "user/name"
"""What the card loads the model by until it is pushed somewhere."""

TASK = "image-feature-extraction"
TAGS = [
    "person-re-identification",
    "pedestrian-attribute-recognition",
    "image-retrieval",
    "pytorch",
    "safetensors",
]
DRAWN_DATA = (
    "The images were drawn by the package itself: no person is pictured in them, and numbers on them say "
    "nothing about photographs."
)
COLLECTED_DATA = (
    "Sets of pedestrians such as Market-1501, CUHK03, MSMT17 and DukeMTMC-reID are given for academic "
    "research only, and the people in them were mostly not asked. Weights that were trained on them are "
    "bound by the terms of the set: read those before any other use, and before passing the weights on. "
    "This card grants no right that the data's owner has not given."
)

USES = """## Intended use

Research and teaching on person re-identification and pedestrian attributes: reproducing and comparing
methods, studying domain shift, bias and robustness, finding the same person again within a data set whose
people have agreed to it or whose use is lawful.

## What it must not be used for

- Watching, following or identifying individuals without a legal basis and, where the law asks for it, their
  consent; stalking or harassment of any kind.
- Decisions of law enforcement, border control, employment, housing, credit or insurance about a person, with
  or without a human who looks on. A high rank is a resemblance of clothes and posture, not evidence.
- Inferring origin, religion, health, sexual orientation, gender identity or any other sensitive trait.

## Limits and bias

- Attribute labels are coarse perceptions of annotators, given once per person. "Gender" (two values) and
  "age" (four) describe an appearance as somebody labeled it; they are not facts about a person.
- The model follows clothing and colors: a change of clothes, light, camera, season or place can mislead it.
- Data from one place and time over- and under-represent groups of people; error rates differ between groups
  and have not been measured per group. Rare attribute values are recognized much worse than the mean says:
  compare each accuracy with its majority baseline and look at the balanced accuracy.
- Scores on the test set named above are no promise for other cameras."""


def write_model_card(folder: Path, report: Report, architecture: Mapping[str, Any], repo_id: str | None = None) -> None:
    """Write `folder`/README.md from a run's report and the model's `config.json` content."""
    write_text(folder / CARD_FILE, model_card(report, architecture, repo_id))


def model_card(report: Report, architecture: Mapping[str, Any], repo_id: str | None = None) -> str:
    """The card as text: YAML metadata with the results as `model-index`, then the page."""
    name = repo_id or NAME_PLACEHOLDER
    sections = [
        f"# {_cell(report['title'])}",
        _what(report, architecture),
        _how_to_load(name, report["attributes"] is not None),
        _results(report),
        _data(report),
        USES,
        _how_it_was_made(report, architecture),
    ]
    page = "\n\n".join(section for section in sections if section)
    return f"---\n{_metadata(report, repo_id).to_yaml()}\n---\n\n{page}\n"


# --- metadata --------------------------------------------------------------------------------------------


def _metadata(report: Report, repo_id: str | None) -> ModelCardData:
    results = [*_retrieval_results(report), *_attribute_results(report)]
    return ModelCardData(
        library_name="reid_accel",
        pipeline_tag=TASK,
        tags=TAGS,
        model_name=(repo_id.rpartition("/")[2] if repo_id else report["title"]) if results else None,
        eval_results=results or None,
    )


def _retrieval_results(report: Report) -> list[EvalResult]:
    results = []
    for scores in report["retrieval"]:
        values = {"mAP": scores["mAP"], "mINP": scores["mINP"]}
        values |= {f"rank-{rank}": value for rank, value in scores["cmc"].items()}
        label = protocol_label(scores)
        results += [
            _result(report, "image-retrieval", "Person re-identification", scores["split"], key, label, value)
            for key, value in values.items()
        ]
    return results


def _attribute_results(report: Report) -> list[EvalResult]:
    attributes = report["attributes"]
    if attributes is None:
        return []
    task = "Pedestrian attribute recognition"
    results = []
    for convention, scores in attributes["conventions"].items():
        values = {"accuracy": scores["accuracy"], "majority baseline": scores["majority_baseline"]}
        results += [
            _result(report, "image-classification", task, attributes["split"], key, convention, value)
            for key, value in values.items()
        ]
    return results


def _result(
    report: Report, task: str, task_name: str, split: str, metric: str, protocol: str, value: float
) -> EvalResult:
    data = report["data"]["name"]
    return EvalResult(
        task_type=task,
        task_name=task_name,
        dataset_type=data,
        dataset_name=f"{data} ({split})",
        dataset_split=split,
        metric_type=metric.lower().replace(" ", "-"),
        metric_name=f"{metric} ({protocol})",
        metric_value=round(value, 6),
    )


# --- the page --------------------------------------------------------------------------------------------


def _what(report: Report, architecture: Mapping[str, Any]) -> str:
    backbone = architecture.get("backbone", "a backbone of timm")
    size = ""
    if "height_px" in architecture and "width_px" in architecture:
        size = f" of {architecture['height_px']} x {architecture['width_px']} pixels"
    verb = "scored" if report["training"] is None else "trained"
    attributes = report["attributes"]
    says = (
        "says whether two pictures show the same person, and names attributes of clothing and appearance"
        if attributes is not None
        else "says whether two pictures show the same person"
    )
    return (
        f"A person re-identification model that {says}: `{backbone}` on crops{size}, {verb} on "
        f"{_cell(report['data']['name'])} with the Python package reid_accel."
    )


def _how_to_load(name: str, with_attributes: bool) -> str:
    lines = [
        "from reid_accel import ReIDModel",
        f'model = ReIDModel.from_pretrained("{name}")',
        "embeddings = model.embed(images)  # PIL images or uint8 arrays; near = likely the same person",
    ]
    if with_attributes:
        lines.append('attributes = model.attributes(images)  # [{"hat": "no", "upper_color": "red", ...}, ...]')
    return "## How to load it\n\n```python\n" + "\n".join(lines) + "\n```"


def _results(report: Report) -> str:
    parts = [_retrieval_table(report["retrieval"])] if report["retrieval"] else []
    if report["attributes"] is not None:
        parts += [_conventions_table(report["attributes"]), _groups_table(report["attributes"])]
    if not parts:
        return ""
    note = (
        "Each number holds for its protocol only; numbers of different protocols are not comparable. "
        f"Scored on {hardware_line(report)}."
    )
    return "\n\n".join(["## Results", note, *parts])


def _retrieval_table(retrieval: Sequence[Retrieval]) -> str:
    ranks = ranks_shown(list(retrieval))
    headers = ["Protocol", "Split", "mAP", *(f"rank-{rank}" for rank in ranks), "mINP", "queries", "gallery"]
    rows = [
        [
            protocol_label(scores),
            scores["split"],
            percent(scores["mAP"], 2),
            *(percent(scores["cmc"].get(rank), 2) for rank in ranks),
            percent(scores["mINP"], 2),
            f"{count(scores['num_valid'])} of {count(scores['num_queries'])}",
            count(scores["num_gallery"]),
        ]
        for scores in retrieval
    ]
    return _table(headers, rows, words=2)


def _conventions_table(attributes: Attributes) -> str:
    headers = ["Attribute convention", "accuracy", "majority baseline", "points gained", "mA", "images"]
    return _table(headers, convention_rows(attributes))


def _groups_table(attributes: Attributes) -> str:
    rows = [
        [
            group["name"],
            percent(group["accuracy"]),
            percent(group["majority_baseline"]),
            percent(group["balanced_accuracy"]),
            percent(group["macro_f1"]),
        ]
        for group in attributes["per_group"]
    ]
    return _table(["Attribute", "accuracy", "majority baseline", "balanced accuracy", "macro F1"], rows)


def _data(report: Report) -> str:
    data = report["data"]
    rows = [
        [name, count(split["images"]), count(split["identities"]), count(split["cameras"])]
        for name, split in data["splits"].items()
    ]
    table = _table(["Split", "images", "people", "cameras"], rows) if rows else ""
    license = DRAWN_DATA if data["name"] == "synthetic" else COLLECTED_DATA
    heading = f"## Data: {_cell(data['name'])}"
    warnings = [f"- Warning: {_cell(warning.replace(data['root'], data['name']))}" for warning in data["warnings"]]
    return "\n\n".join(part for part in (heading, table, "\n".join(warnings), license) if part)


def _how_it_was_made(report: Report, architecture: Mapping[str, Any]) -> str:
    words = f"Made {report['created'][:10]} with {software_line(report['software'])}."
    training = report["training"]
    if training is not None:
        words = (
            f"Trained for {training['epochs']} epochs ({count(training['steps'])} steps) in "
            f"{training['minutes']:.1f} minutes, seed {training['seed']}. " + words
        )
    details = [_details("Configuration of the run", _yaml(report["config"]))] if report["config"] else []
    details.append(_details("Architecture", _yaml(architecture)))
    return "\n\n".join(["## How it was made", words, *details])


def _details(summary: str, content: str) -> str:
    return f"<details>\n<summary>{summary}</summary>\n\n````yaml\n{content}````\n\n</details>"


def _yaml(content: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(content, default=str))
    return yaml.safe_dump(_without_folders(plain), sort_keys=False, allow_unicode=True)


def _without_folders(value: Any) -> Any:
    """The same settings with absolute paths cut to their last part: a card is for the public.

    >>> _without_folders({"root": "/home/someone/data/market", "epochs": 3})
    {'root': '.../market', 'epochs': 3}
    """
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if isinstance(value, str) and (PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()):
        return f".../{PureWindowsPath(value).name}"
    return value


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    rule = ["---" if index < words else "---:" for index in range(len(headers))]
    lines = [headers, rule, *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """Text that stays one cell of a Markdown table and brings no HTML along."""
    escaped = _one_line(text).replace("&", "&amp;").replace("<", "&lt;")
    return escaped.replace("|", "\\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())
