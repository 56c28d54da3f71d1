"""Scoring a model on labeled images, for train.py and score.py.

Galleries are sharded: every process makes the same calls and gets the same scores.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from reid_accel.attributes.metrics import junk_auc, score_attributes
from reid_accel.attributes.vocabulary import UNKNOWN, AttributeGroup
from reid_accel.config.schema import ScoreConfig
from reid_accel.data.dataset import ImageDataset, Ints
from reid_accel.data.splits import OpenedData
from reid_accel.distributed.collectives import Group
from reid_accel.errors import InputError
from reid_accel.models.reid import ReIDModel
from reid_accel.reporting.schema import Attributes, Junk, split_pair
from reid_accel.retrieval.api import evaluate
from reid_accel.retrieval.embed import AttributePredictions, embed_dataset
from reid_accel.retrieval.expansion import AlphaExpansion
from reid_accel.retrieval.features import Embeddings
from reid_accel.retrieval.metrics import RetrievalScores
from reid_accel.retrieval.protocol import MARKET, NO_CAMERA_RULE, Settings, fitting_protocol
from reid_accel.retrieval.rerank import KReciprocal

logger = logging.getLogger(__name__)


def score_validation(
    model: ReIDModel,
    validation: ImageDataset,
    train_attributes_NA: Ints,
    config: ScoreConfig,
    protocol: str,
    seed: int,
) -> dict[str, Any]:
    """mAP and attribute accuracy of the validation split, for the epoch's log line."""
    embeddings, predicted = embed_dataset(model, validation, config)
    scored = score_within(embeddings, protocol, model.architecture.metric, config, seed)
    attributes = attribute_entry("validation", validation, predicted, train_attributes_NA)
    return {
        "validation_protocol": protocol,
        "validation_mAP": scored[1].mean_ap if scored is not None else None,
        "validation_attribute_accuracy": attributes["conventions"]["12 groups"]["accuracy"] if attributes else None,
    }


def score_variants(query: Embeddings, gallery: Embeddings, metric: str, config: ScoreConfig) -> list[RetrievalScores]:
    """Plain scores by the Market-1501 protocol, then re-ranked and query-expanded ones if `config` enables them.

    Without matches by another camera, the protocol has no camera rule; without any match, there are no scores. The
    queries must be complete on every process.
    """
    protocol = fitting_protocol(query, gallery)
    if protocol is None:
        return []
    plain = Settings(metric=metric, protocol=protocol, average_precision=config.average_precision)
    variants = [plain]
    if config.rerank:
        variants.append(replace(plain, rerank=KReciprocal()))
    if config.query_expansion:
        variants.append(replace(plain, query_expansion=AlphaExpansion(config.query_expansion)))
    return [evaluate(query, gallery, settings, Group.of()) for settings in variants]


def score_within(
    validation: Embeddings, protocol: str, metric: str, config: ScoreConfig, seed: int
) -> tuple[Embeddings, RetrievalScores] | None:
    """Query randomly drawn validation images against all validation images.

    Returns the drawn queries and their scores, or None if no drawn image has a match.
    """
    rows = draw_queries(validation, protocol, config, seed)
    if not len(rows):
        return None
    group = Group.of()
    queries = validation.select(rows, group)
    # without a camera rule, too, a query is no match of itself
    rule = "course-strict" if protocol == NO_CAMERA_RULE else protocol
    settings = Settings(metric=metric, protocol=rule, average_precision=config.average_precision)
    return queries, replace(evaluate(queries, validation, settings, group), protocol=protocol)


def draw_queries(images: Embeddings, protocol: str, config: ScoreConfig, seed: int) -> Ints:
    """The rows, ascending, of randomly drawn images that query their own split, as in the course report.

    Empty if no drawn image has a match.
    """
    people = np.flatnonzero(images.pid_N > 0)
    number = min(config.validation_queries, len(people))
    drawn = np.sort(np.random.default_rng([seed, number]).choice(people, number, replace=False))
    return drawn if any(_has_match(images, row, protocol) for row in drawn) else drawn[:0]


def _has_match(images: Embeddings, row: int, protocol: str) -> bool:
    same_N = images.pid_N == images.pid_N[row]
    if protocol == MARKET:
        same_N &= images.camera_N != images.camera_N[row]
    same_N[row] = False
    return bool(same_N.any())


def retrieval_entries(
    query_split: str,
    gallery_split: str,
    scores: Sequence[RetrievalScores],
    *,
    flip: bool,
    crops: int,
    edition: str = "",
) -> list[dict[str, Any]]:
    """Scores in the report's format; flip, crops: the views of an image that embeddings were averaged over.

    edition: of a data set with several (MSMT17-V1, MSMT17-V2).
    """
    views = f"flip={'averaged' if flip else 'none'} crops={crops}" + (f" edition={edition}" if edition else "")
    split = split_pair(query_split, gallery_split)
    return [
        {"split": split, **each.summary(), "flip": flip, "crops": crops, "stamp": f"{each.stamp} {views}"}
        for each in scores
    ]


def attribute_entry(
    split: str, images: ImageDataset, predicted: AttributePredictions, train_attributes_NA: Ints
) -> Attributes | None:
    """The report's attribute scores of a split, or None if model or images have no attributes.

    train_attributes_NA: for the majority baseline.
    """
    if not images.groups or not predicted.value_NA.shape[1]:
        return None
    known_N = (images.attributes_NA != UNKNOWN).any(1)
    known_train_N = (train_attributes_NA != UNKNOWN).any(1)
    if not known_N.any() or not known_train_N.any():
        return None
    scores = score_attributes(
        predicted.value_NA[known_N],
        images.attributes_NA[known_N],
        train_attributes_NA[known_train_N],
        images.groups,
    )
    summary = scores.summary()
    return {
        "split": split,
        "train_split": "train",
        "conventions": summary["conventions"],
        "per_group": summary["per_group"],
    }


def junk_entry(images: ImageDataset, predicted: AttributePredictions) -> Junk | None:
    """How well the junk score separates people from distractors and junk; None without both or without attributes."""
    person_N = images.pid_N > 0
    if not predicted.value_NA.shape[1] or person_N.all() or not person_N.any():
        return None
    auc = junk_auc(predicted.junk_score_N.double().numpy(), person_N)
    return {"auc": auc, "num_people": int(person_N.sum()), "num_junk": int((~person_N).sum())}


def require_fitting_vocabulary(model_groups: Sequence[AttributeGroup], data_groups: Sequence[AttributeGroup]) -> None:
    """Raise InputError if model and data have different attributes."""
    if not model_groups or not data_groups or tuple(model_groups) == tuple(data_groups):
        return
    ours, theirs = ({group.name: group.values for group in groups} for groups in (model_groups, data_groups))
    differing = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
    raise InputError(
        f"the model's attributes do not match the data's: {', '.join(differing) or 'another order'} differ. Score "
        "on data with the same attributes, or remove the data's annotation file"
    )


def validation_protocol(data: OpenedData, validation: ImageDataset) -> str:
    """The protocol that selects the best model.

    `course-strict` if the test images have no labels, else `market1501`, without the camera rule if nobody is seen by
    two cameras.
    """
    if not data.labeled_test:
        return "course-strict"
    return fitting_protocol(validation, validation) or MARKET


def with_scoring_warning(data: OpenedData) -> OpenedData:
    """The data with a warning, which is logged, if its test images can't be scored, or only without the camera rule."""
    if not data.labeled_test:
        return data
    query, gallery = data.splits["query"], data.splits["gallery"]
    protocol = fitting_protocol(query, gallery)
    if protocol == MARKET:
        return data
    warning = f"none of the {len(query):,} queries has an image of the same person "
    if protocol == NO_CAMERA_RULE:
        warning += (
            "by another camera in the gallery (a camera is the number after _c in PERSON_cCAMERA...): scores have the "
            f"protocol {NO_CAMERA_RULE!r} and are not comparable with those of {MARKET}"
        )
    else:
        warning += (
            f"among the {len(gallery):,} gallery images, so nothing is scored on them: query and gallery must be from "
            "the same set"
        )
    logger.warning(warning)
    return replace(data, warnings=(*data.warnings, warning))
