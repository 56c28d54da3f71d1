"""Scoring a model on labeled images, for train.py and score.py.

Galleries are sharded: every process makes the same calls and gets the same scores.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from reid_accel.attributes.matching import labels_in, missing_groups_warning, shared_groups
from reid_accel.attributes.metrics import junk_auc, score_attributes
from reid_accel.attributes.vocabulary import UNKNOWN, AttributeGroup
from reid_accel.config.schema import ScoreConfig
from reid_accel.data.dataset import ImageDataset, Ints
from reid_accel.data.listing import UNKNOWN_TRACKLET
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
from reid_accel.retrieval.protocol import MARKET, NO_CAMERA_RULE, TRACKLET_RULE, Settings, fitting_protocol
from reid_accel.retrieval.rerank import KReciprocal

logger = logging.getLogger(__name__)

ATTRIBUTES_ONLY = "attributes"
"""The protocol of validation images without people."""
NO_SCORES = {"validation_mA": None, "validation_F1": None}


def score_validation(
    model: ReIDModel,
    validation: ImageDataset,
    trained_on: ImageDataset,
    config: ScoreConfig,
    protocol: str,
    seed: int,
) -> dict[str, Any]:
    """mAP and attribute accuracy of the validation split, for the epoch's log line; without people mA and F1 instead of
    mAP."""
    embeddings, predicted = embed_dataset(model, validation, config)
    entry = attribute_entry("validation", validation, predicted, trained_on, model.architecture.groups)
    groups, *_, binaries = entry["conventions"].values() if entry else (None, None)
    accuracy = {"validation_attribute_accuracy": groups["accuracy"] if groups else None}
    if protocol == ATTRIBUTES_ONLY:
        scores = {"validation_mA": binaries["mA"], "validation_F1": binaries["instance_f1"]} if binaries else NO_SCORES
        return {"validation_protocol": protocol, **scores, **accuracy}
    scored = score_within(embeddings, protocol, model.architecture.metric, config, seed)
    mean_ap = scored[1].mean_ap if scored is not None else None
    return {"validation_protocol": protocol, "validation_mAP": mean_ap, **accuracy}


def score_variants(query: Embeddings, gallery: Embeddings, metric: str, config: ScoreConfig) -> list[RetrievalScores]:
    """Plain scores by the Market-1501 protocol, then re-ranked and query-expanded ones if `config` enables them.

    Without matches by another camera, the protocol has a rule on tracklets or none (see `fitting_protocol`); without
    any match, there are no scores. The
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
    if protocol == TRACKLET_RULE and images.tracklet_N[row] != UNKNOWN_TRACKLET:
        same_N &= images.tracklet_N != images.tracklet_N[row]
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
    cameras_given: bool = False,
) -> list[dict[str, Any]]:
    """Scores in the report's format; flip, crops: the views of an image that embeddings were averaged over.

    edition: of a data set with several (MSMT17-V1, MSMT17-V2). cameras_given: whether the network knew each image's
    camera, which others' numbers mostly don't.
    """
    views = f"flip={'averaged' if flip else 'none'} crops={crops}" + (f" edition={edition}" if edition else "")
    views += " cameras=given" if cameras_given else ""
    split = split_pair(query_split, gallery_split)
    return [
        {"split": split, **each.summary(), "flip": flip, "crops": crops, "stamp": f"{each.stamp} {views}"}
        for each in scores
    ]


def attribute_entry(
    split: str,
    images: ImageDataset,
    predicted: AttributePredictions,
    trained_on: ImageDataset,
    model_groups: Sequence[AttributeGroup],
    edition: str = "",
) -> Attributes | None:
    """The report's attribute scores of a split, or None if model and images have no attributes in common.

    trained_on: for the majority baseline. Images without people are scored as in the literature on attribute
    recognition (PAR), which is then what the report quotes.
    """
    place_of = {group.name: place for place, group in enumerate(model_groups)}
    shared = shared_groups(model_groups, images.groups)
    label_NA = labels_in(shared, images.groups, images.attributes_NA)
    groups = tuple(group for group, label_N in zip(shared, label_NA.T, strict=True) if (label_N != UNKNOWN).any())
    label_NA = labels_in(groups, images.groups, images.attributes_NA)
    train_NA = labels_in(groups, trained_on.groups, trained_on.attributes_NA)
    known_N, known_train_N = ((labels != UNKNOWN).any(1) for labels in (label_NA, train_NA))
    if not known_N.any() or not known_train_N.any():
        return None
    value_NA = predicted.value_NA[:, [place_of[group.name] for group in groups]]
    scores = score_attributes(value_NA[known_N], label_NA[known_N], train_NA[known_train_N], groups)
    summary = scores.summary()
    entry: Attributes = {
        "split": split,
        "train_split": "train",
        "conventions": summary["conventions"],
        "per_group": summary["per_group"],
    }
    if not (images.pid_N > 0).any():
        entry["headline"] = scores.binaries_name
        entry["protocol"] = ", ".join(filter(None, ("PAR", scores.binaries_name, edition)))
    return entry


def junk_entry(images: ImageDataset, predicted: AttributePredictions) -> Junk | None:
    """How well the junk score separates people from distractors and junk; None without both or without attributes."""
    person_N = images.pid_N > 0
    if not predicted.value_NA.shape[1] or person_N.all() or not person_N.any():
        return None
    auc = junk_auc(predicted.junk_score_N.double().numpy(), person_N)
    return {"auc": auc, "num_people": int(person_N.sum()), "num_junk": int((~person_N).sum())}


def with_vocabulary_warning(data: OpenedData, model_groups: Sequence[AttributeGroup]) -> OpenedData:
    """The data with a warning, which is logged, if some attributes can't be scored on its test images.

    Raises InputError if those of model and data have different values, or none can be scored where nothing else could.
    """
    tested = [images for split, images in data.splits.items() if split != "train"]
    shared = [shared_groups(model_groups, images.groups) for images in tested]
    if data.attributes_only and not all(shared):
        raise InputError(
            "the model predicts none of the data's attributes, and the data has no query and gallery: nothing can be "
            "scored on it"
        )
    found = [missing_groups_warning(model_groups, images.groups) for images in tested]
    warnings = tuple(dict.fromkeys(warning for warning in found if warning))
    for warning in warnings:
        logger.warning(warning)
    return replace(data, warnings=(*data.warnings, *warnings))


def validation_protocol(data: OpenedData, validation: ImageDataset) -> str:
    """The protocol that selects the best model.

    `course-strict` if the test images have no labels, else `market1501`, without the camera rule if nobody is seen by
    two cameras; attributes alone if there are no people.
    """
    if not (validation.pid_N > 0).any():
        return ATTRIBUTES_ONLY
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
    if protocol is not None:
        warning += (
            "by another camera in the gallery (a camera is the number after _c in PERSON_cCAMERA...): scores have the "
            f"protocol {protocol!r}, are higher than by {MARKET}, and not comparable with it"
        )
    else:
        warning += (
            f"among the {len(gallery):,} gallery images, so nothing is scored on them: query and gallery must be from "
            "the same set"
        )
    logger.warning(warning)
    return replace(data, warnings=(*data.warnings, warning))
