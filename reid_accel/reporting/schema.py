"""What `report.json` holds, as types; and the few words and numbers that every view of it shares.

Shares, accuracies and mAP are fractions from 0 to 1 in the file and percentages wherever people read them.
The first entry of `retrieval` is the run's headline.
"""

from collections.abc import Mapping
from typing import Any, TypedDict

FORMAT = 1
HEADLINE_CONVENTION = "12 groups"


class SoftwareVersions(TypedDict):
    reid_accel: str
    python: str
    torch: str
    accelerate: str
    timm: str
    commit: str | None


class Hardware(TypedDict):
    device: str
    processes: int
    mixed_precision: str
    cpu: str
    threads: int
    deterministic: bool


class SplitCounts(TypedDict):
    images: int
    identities: int
    cameras: int


class SkippedImage(TypedDict):
    name: str
    reason: str


class DataFacts(TypedDict):
    name: str
    root: str
    fingerprint: str
    splits: dict[str, SplitCounts]
    warnings: list[str]
    skipped_images: list[SkippedImage]


class EpochAlways(TypedDict):
    epoch: int
    loss: float
    losses: dict[str, float]
    identity_accuracy: float | None
    attribute_accuracy: float | None
    learning_rate: float
    images_per_second: float


class Epoch(EpochAlways, total=False):
    """One line of the training history. losses: the weighted terms that add up to the loss, of those that are on.
    Accuracies are on the training images, attributes where they are known. The validation fields are there for epochs
    that were validated."""

    validation_protocol: str
    validation_mAP: float | None
    validation_attribute_accuracy: float | None


class Training(TypedDict):
    epochs: int
    steps: int
    minutes: float
    images_per_second: float
    best_epoch: int | None
    seed: int
    history: list[Epoch]


class Retrieval(TypedDict):
    split: str
    protocol: str
    average_precision: str
    metric: str
    rerank: str | None
    query_expansion: str | None
    flip: bool
    crops: int
    stamp: str
    mAP: float
    mINP: float
    cmc: dict[str, float]
    tpr_at_fpr: dict[str, float]
    num_queries: int
    num_valid: int
    num_left_out: int
    num_gallery: int


class ConventionAlways(TypedDict):
    accuracy: float
    majority_baseline: float
    num_images: int


class Convention(ConventionAlways, total=False):
    """One way of counting attributes right; the fields below are given with `30 binaries` only."""

    mA: float | None
    instance_accuracy: float
    instance_precision: float
    instance_recall: float
    instance_f1: float
    columns_left_out: list[str]


class GroupScore(TypedDict):
    name: str
    accuracy: float
    majority_baseline: float
    balanced_accuracy: float | None
    macro_f1: float | None
    num_images: int


class Attributes(TypedDict):
    split: str
    train_split: str
    conventions: dict[str, Convention]
    per_group: list[GroupScore]


class Junk(TypedDict):
    auc: float | None
    num_people: int
    num_junk: int


class ReportFrame(TypedDict):
    """The part of a report that doesn't come from scoring."""

    title: str
    config: dict[str, Any]
    data: DataFacts
    training: Training | None


class Report(ReportFrame):
    format: int
    created: str
    software: SoftwareVersions
    hardware: Hardware
    retrieval: list[Retrieval]
    attributes: Attributes | None
    junk: Junk | None


ABSENT = "–"


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as a percentage, a dash where there is none.

    >>> percent(0.61234), percent(None)
    ('61.2 %', '–')
    """
    return ABSENT if fraction is None else f"{100 * fraction:.{digits}f} %"


def points(fraction: float, baseline: float) -> str:
    """By how many percentage points a fraction is above (+) or below (−) its baseline.

    >>> points(0.85, 0.8), points(0.7, 0.75)
    ('+5.0', '−5.0')
    """
    difference = round(100 * (fraction - baseline), 1)
    return f"{'−' if difference < 0 else '+'}{abs(difference):.1f}"


def count(number: int) -> str:
    """A count with thin thousands.

    >>> count(12989)
    '12,989'
    """
    return f"{number:,}"


def protocol_label(scores: Retrieval) -> str:
    """What a retrieval number has to be read with: protocol, average precision, metric, what was added.

    >>> protocol_label({"protocol": "market", "average_precision": "standard", "metric": "cosine",
    ...                 "rerank": None, "query_expansion": None, "flip": False, "crops": 1})
    'market, ap=standard, cosine'
    >>> protocol_label({"protocol": "market", "average_precision": "standard", "metric": "cosine",
    ...                 "rerank": None, "query_expansion": None, "flip": True, "crops": 5})
    'market, ap=standard, cosine, flip-averaged, 5 crops averaged'
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


def headline_convention(attributes: Attributes) -> tuple[str, Convention] | None:
    """The convention that is shown large: `12 groups` when it was scored, else the first one."""
    conventions = attributes["conventions"]
    if HEADLINE_CONVENTION in conventions:
        return HEADLINE_CONVENTION, conventions[HEADLINE_CONVENTION]
    return next(iter(conventions.items()), None)


def ranks_shown(retrieval: list[Retrieval]) -> list[str]:
    """The CMC ranks that any entry has, ascending: the columns of a table of all of them."""
    return sorted({rank for scores in retrieval for rank in scores["cmc"]}, key=int)


def hardware_line(report: Report) -> str:
    """Device, processes, precision and kernels in one line."""
    hardware = report["hardware"]
    processes = hardware["processes"]
    words = f"{processes} process" + ("es" if processes != 1 else "")
    kernels = "deterministic" if hardware["deterministic"] else "fastest"
    return f"{hardware['device']}, {words}, mixed precision {hardware['mixed_precision']}, {kernels} kernels"


def software_line(versions: Mapping[str, Any]) -> str:
    """`reid_accel 0.1.0, python 3.11, ...`, the commit where it is known."""
    return ", ".join(f"{name} {value}" for name, value in versions.items() if value)


def convention_rows(attributes: Attributes) -> list[list[str]]:
    """Per convention: name, accuracy, majority baseline, points gained, mA, images, as people read them."""
    return [
        [
            name,
            percent(scores["accuracy"], 2),
            percent(scores["majority_baseline"], 2),
            points(scores["accuracy"], scores["majority_baseline"]),
            percent(scores.get("mA"), 2),
            count(scores["num_images"]),
        ]
        for name, scores in attributes["conventions"].items()
    ]
