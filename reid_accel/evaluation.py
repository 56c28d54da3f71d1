"""Scoring a model on labelled images: what train.py and score.py share.

Pure functions of predictions and labels; they run on process 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reid_accel.attributes.scores import junk_auc, score_attributes
from reid_accel.attributes.vocabulary import UNKNOWN, AttributeGroup
from reid_accel.config import ScoreConfig
from reid_accel.data.imageset import ImageSet, Ints
from reid_accel.errors import InputError
from reid_accel.reporting.html import RankList, Shown
from reid_accel.reporting.report import Attributes, Junk
from reid_accel.retrieval.embed import Predictions
from reid_accel.retrieval.expansion import AlphaExpansion
from reid_accel.retrieval.nearest import NO_ROW
from reid_accel.retrieval.ranking import evaluate, top_k
from reid_accel.retrieval.rerank import KReciprocal
from reid_accel.retrieval.scores import RetrievalScores

SHOWN_MATCHES = 10


@dataclass(frozen=True)
class LabelledSet:
    """Images, what the model says of them, and the split's name."""

    split: str
    images: ImageSet
    predictions: Predictions


def score_pair(
    query: LabelledSet, gallery: LabelledSet, metric: str, config: ScoreConfig
) -> tuple[list[dict[str, Any]], RetrievalScores]:
    """Query against gallery by the Market-1501 protocol: plain scores first, then re-ranked and expanded ones.

    Returns the report's entries and the plain scores with their per-query parts.
    """

    def scores(**extra: Any) -> RetrievalScores:
        return evaluate(
            query.predictions.embedding_ND,
            gallery.predictions.embedding_ND,
            query.images.pid_N,
            gallery.images.pid_N,
            query.images.camera_N,
            gallery.images.camera_N,
            metric=metric,
            protocol="market1501",
            average_precision=config.average_precision,
            **extra,
        )

    plain = scores()
    entries = [plain]
    if config.rerank:
        entries.append(scores(rerank=KReciprocal()))
    if config.query_expansion:
        entries.append(scores(query_expansion=AlphaExpansion(config.query_expansion)))
    return [retrieval_entry(query, gallery, entry) for entry in entries], plain


def draw_queries(images: ImageSet, protocol: str, config: ScoreConfig, seed: int) -> Ints:
    """The course report's way: some images of a split, drawn with the seed, that query the whole split.

    Returns their positions, ascending; empty when no drawn image has anything to be found.
    """
    people = np.flatnonzero(images.pid_N > 0)
    number = min(config.validation_queries, len(people))
    drawn = np.sort(np.random.default_rng([seed, number]).choice(people, number, replace=False))
    return drawn if any(_has_match(images, position, protocol) for position in drawn) else drawn[:0]


def _has_match(images: ImageSet, position: int, protocol: str) -> bool:
    same_N = images.pid_N == images.pid_N[position]
    if protocol == "market1501":
        same_N &= images.camera_N != images.camera_N[position]
    same_N[position] = False
    return bool(same_N.any())


def score_within(
    validation: LabelledSet, protocol: str, metric: str, config: ScoreConfig, seed: int
) -> tuple[LabelledSet, RetrievalScores] | None:
    """Drawn validation images against the whole validation split; None when nothing can be found in it.

    Returns the drawn queries and their scores.
    """
    gallery, predictions = validation.images, validation.predictions
    rows = draw_queries(gallery, protocol, config, seed)
    if not len(rows):
        return None
    query = LabelledSet(
        f"{len(rows)} drawn from {validation.split}",
        gallery.select(rows),
        Predictions(*(column[torch.from_numpy(rows)] for column in predictions)),
    )
    scores = evaluate(
        query.predictions.embedding_ND,
        predictions.embedding_ND,
        query.images.pid_N,
        gallery.pid_N,
        query.images.camera_N,
        gallery.camera_N,
        metric=metric,
        protocol=protocol,
        average_precision=config.average_precision,
        query_rows=rows,
    )
    return query, scores


def retrieval_entry(query: LabelledSet, gallery: LabelledSet, scores: RetrievalScores) -> dict[str, Any]:
    """Scores as the report keeps them."""
    return {"split": f"{query.split} → {gallery.split}", **scores.summary()}


def attribute_entry(labelled: LabelledSet, train_attributes_NA: Ints) -> Attributes | None:
    """The report's attribute scores of a split, or None when model or images have no attributes."""
    images, predicted_NA = labelled.images, labelled.predictions.attribute_NA.numpy()
    if not images.groups or not predicted_NA.shape[1]:
        return None
    known_N = (images.attributes_NA != UNKNOWN).any(1)
    known_train_N = (train_attributes_NA != UNKNOWN).any(1)
    if not known_N.any() or not known_train_N.any():
        return None
    scores = score_attributes(
        predicted_NA[known_N],
        images.attributes_NA[known_N],
        train_attributes_NA[known_train_N],
        images.groups,
    )
    summary = scores.summary()
    return {
        "split": labelled.split,
        "train_split": "train",
        "conventions": summary["conventions"],
        "per_group": summary["per_group"],
    }


def junk_entry(labelled: LabelledSet) -> Junk | None:
    """How well the junk score tells people from distractors and junk; None without both or without attributes."""
    person_N = labelled.images.pid_N > 0
    if not labelled.predictions.attribute_NA.shape[1] or person_N.all() or not person_N.any():
        return None
    auc = junk_auc(labelled.predictions.junk_score_N.double().numpy(), person_N)
    return {"auc": auc, "num_people": int(person_N.sum()), "num_junk": int((~person_N).sum())}


def rank_lists(
    query: LabelledSet, gallery: LabelledSet, scores: RetrievalScores, number: int
) -> tuple[list[RankList], list[RankList]]:
    """The `number` best and worst counted queries with what was found for them, for the report's pictures."""
    counted = np.flatnonzero(~np.isnan(scores.ap_Q))
    order = counted[np.argsort(-scores.ap_Q[counted], kind="stable")]
    best, worst = order[:number], order[::-1][:number]
    positions = np.union1d(best, worst)
    if not len(positions):
        return [], []
    rows_Pk, distances_Pk = _found(query, gallery, positions, scores)
    shown = {
        int(position): RankList(
            _shown(query.images, int(position), None, None),
            tuple(
                _shown(gallery.images, int(row), float(distance), bool(gallery.images.pid_N[row] == pid))
                for row, distance in zip(rows_k, distances_k, strict=True)
                if row != NO_ROW
            ),
            float(scores.ap_Q[position]),
        )
        for position, pid, rows_k, distances_k in zip(
            positions, query.images.pid_N[positions], rows_Pk, distances_Pk, strict=True
        )
    }
    return [shown[int(position)] for position in best], [shown[int(position)] for position in worst]


def _found(
    query: LabelledSet, gallery: LabelledSet, positions: Ints, scores: RetrievalScores
) -> tuple[Ints, np.ndarray]:
    """The first rows found for some queries, by the protocol's own rules; never the query itself."""
    if scores.protocol == "market1501":
        rules: dict[str, Any] = {
            "query_pids": query.images.pid_N[positions],
            "gallery_pids": gallery.images.pid_N,
            "query_cameras": query.images.camera_N[positions],
            "gallery_cameras": gallery.images.camera_N,
        }
    else:
        row_of = {name: row for row, name in enumerate(gallery.images.name_N)}
        rules = {"query_rows": np.array([row_of[query.images.name_N[position]] for position in positions])}
    k = min(SHOWN_MATCHES, len(gallery.images))
    features_PD = query.predictions.embedding_ND[torch.from_numpy(positions)]
    return top_k(features_PD, gallery.predictions.embedding_ND, k, metric=scores.metric, **rules)


def _shown(images: ImageSet, position: int, distance: float | None, correct: bool | None) -> Shown:
    pixels = images.store.crops_N3HW[images.row_N[position]].transpose(1, 2, 0)
    return Shown(
        image_HWC=np.ascontiguousarray(pixels),
        name=images.name_N[position],
        pid=int(images.pid_N[position]),
        camera=int(images.camera_N[position]),
        distance=distance,
        correct=correct,
    )


def require_fitting_vocabulary(model_groups: Sequence[AttributeGroup], data_groups: Sequence[AttributeGroup]) -> None:
    """Raise InputError when model and data both have attributes, but not the same ones."""
    if not model_groups or not data_groups or tuple(model_groups) == tuple(data_groups):
        return
    ours, theirs = ({group.name: group.values for group in groups} for groups in (model_groups, data_groups))
    differing = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
    raise InputError(
        f"the model's attributes do not fit the data's: {', '.join(differing) or 'another order'} differ. Score "
        "with data of the same vocabulary, or hide the data's annotation file"
    )


def validation_protocol(cameras_matter: bool) -> str:
    """By what the best model is chosen: Market-1501's camera rule, or the strict course protocol."""
    return "market1501" if cameras_matter else "course-strict"
