"""The types of `report.json`, and the number formats of terminal, page and card.

Fractions, accuracies and mAP are from 0 to 1 in the file and percentages in terminal, page and card.
"""

from collections.abc import Mapping
from typing import Any, TypedDict

FORMAT = 1


def split_pair(query: str, gallery: str) -> str:
    """The `split` of retrieval scores.

    >>> split_pair("query", "gallery")
    'query → gallery'
    """
    return f"{query} → {gallery}"


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
    title: str
    """The display name: `data.title`, or `name` if that is not set."""
    drawn: bool
    """All training images were drawn by the package."""
    root: str
    fingerprint: str
    splits: dict[str, SplitCounts]
    warnings: list[str]
    skipped_images: list[SkippedImage]


class ModelFactsAlways(TypedDict):
    backbone: str
    height_px: int
    width_px: int
    attributes: list[str]


class ModelFacts(ModelFactsAlways, total=False):
    """The network. Initial weights: their name (timm's with its tag, or a file's) and their file's hash, None for
    random ones; reports of older versions lack them. Exported: the scored file of an exported model, its SHA-256 (of
    an OpenVINO model, of the hashes of both files), and its precision."""

    initial_weights: str | None
    initial_weights_sha256: str | None
    exported_file: str
    exported_sha256: str
    exported_precision: str


class EpochAlways(TypedDict):
    epoch: int
    loss: float
    losses: dict[str, float]
    identity_accuracy: float | None
    attribute_accuracy: float | None
    learning_rate: float
    images_per_second: float


class Epoch(EpochAlways, total=False):
    """One line of the training history.

    losses: the weighted terms that add up to the loss. Accuracies are on the training images, for attributes on the
    known labels only. Validation fields exist for validated epochs only: mAP, or mA and F1 without people.
    """

    validation_protocol: str
    validation_mAP: float | None
    validation_mA: float | None
    validation_F1: float | None
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
    """Scores in one convention of attribute accuracy; the fields below exist for yes/no columns (`30 binaries`)."""

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


class AttributesAlways(TypedDict):
    split: str
    train_split: str
    conventions: dict[str, Convention]
    per_group: list[GroupScore]


class Attributes(AttributesAlways, total=False):
    """Attribute scores. The fields below exist for images without people, which are scored as in the literature on
    attribute recognition: the convention to quote, and the protocol with convention and edition of the set."""

    headline: str
    protocol: str


class Junk(TypedDict):
    auc: float | None
    num_people: int
    num_junk: int


class ReportFrame(TypedDict):
    """The part of a report that doesn't come from scoring. `model` is None for scores of saved features."""

    title: str
    config: dict[str, Any]
    model: ModelFacts | None
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
    """A fraction as a percentage; a dash for None.

    >>> percent(0.61234), percent(None)
    ('61.2 %', '–')
    """
    return ABSENT if fraction is None else f"{100 * fraction:.{digits}f} %"


def precise_percent(fraction: float | None) -> str:
    """A percentage with two decimals.

    >>> precise_percent(0.61234)
    '61.23 %'
    """
    return percent(fraction, 2)


def points(difference: float | None) -> str:
    """A difference of two fractions in percentage points, with its sign.

    >>> points(0.85 - 0.8), points(0.7 - 0.75)
    ('+5.0', '−5.0')
    """
    if difference is None:
        return ABSENT
    rounded = round(100 * difference, 1)
    return f"{'−' if rounded < 0 else '+'}{abs(rounded):.1f}"


def count(number: float | None) -> str:
    """A count with thousands separators.

    >>> count(12989)
    '12,989'
    """
    return ABSENT if number is None else f"{number:,.0f}"


def hardware_line(report: Report) -> str:
    """Device, processes, precision and kernels in one line."""
    hardware = report["hardware"]
    processes = hardware["processes"]
    words = f"{processes} process" + ("es" if processes != 1 else "")
    kernels = "deterministic" if hardware["deterministic"] else "fastest"
    return f"{hardware['device']}, {words}, mixed precision {hardware['mixed_precision']}, {kernels} kernels"


def software_line(versions: Mapping[str, Any]) -> str:
    """`reid_accel 0.1.0, python 3.11, ...`, with the commit if known."""
    return ", ".join(f"{name} {value}" for name, value in versions.items() if value)
