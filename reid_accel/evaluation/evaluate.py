"""Scoring a model on labeled images: what train.py and score.py share.

Galleries are sharded, so every process calls these functions alike, and gets the same scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from reid_accel.attributes.metrics import junk_auc, score_attributes
from reid_accel.attributes.vocabulary import UNKNOWN, AttributeGroup
from reid_accel.config.schema import ScoreConfig
from reid_accel.data.dataset import ImageDataset, Ints
from reid_accel.errors import InputError
from reid_accel.reporting.html.pictures import RankList, Shown
from reid_accel.reporting.schema import Attributes, Junk, split_pair
from reid_accel.retrieval.embed import Predictions, embeddings_of
from reid_accel.retrieval.expansion import AlphaExpansion
from reid_accel.retrieval.knn import NO_ROW
from reid_accel.retrieval.metrics import RetrievalScores
from reid_accel.retrieval.rerank import KReciprocal
from reid_accel.retrieval.sharded import evaluate_sharded, top_k_sharded

SHOWN_MATCHES = 10


@dataclass(frozen=True)
class GalleryShard:
    """This process's rows of a gallery, with the labels of all of it."""

    embedding_SD: Tensor
    rows: range
    pid_N: Ints
    camera_N: Ints

    @property
    def num_gallery(self) -> int:
        """Rows of the whole gallery."""
        return len(self.pid_N)

    def own(self, labels_N: Ints) -> Ints:
        """This process's part of some labels."""
        return labels_N[self.rows.start : self.rows.stop]


@dataclass(frozen=True)
class LabeledSet:
    """Images, what the model says of them, and the split's name."""

    split: str
    images: ImageDataset
    predictions: Predictions

    @property
    def shard(self) -> GalleryShard:
        """The set as a gallery."""
        predictions = self.predictions
        return GalleryShard(predictions.embedding_SD, predictions.rows, self.images.pid_N, self.images.camera_N)


def score_pair(
    query: LabeledSet, gallery: LabeledSet, metric: str, config: ScoreConfig
) -> tuple[list[dict[str, Any]], RetrievalScores]:
    """Query against gallery by the Market-1501 protocol: plain scores first, then re-ranked and expanded ones.

    Returns the report's entries and the plain scores with their per-query parts.
    """
    query_QD = embeddings_of(query.predictions, np.arange(len(query.images)))
    scores = score_variants(query_QD, query.images.pid_N, query.images.camera_N, gallery.shard, metric, config)
    entries = [
        retrieval_entry(query.split, gallery.split, each, flip=config.flip, crops=config.crops) for each in scores
    ]
    return entries, scores[0]


def score_variants(
    query_QD: Tensor, query_pid_Q: Ints, query_camera_Q: Ints, gallery: GalleryShard, metric: str, config: ScoreConfig
) -> list[RetrievalScores]:
    """Plain scores by the Market-1501 protocol, then the re-ranked and expanded ones that `config` asks for."""
    variants: list[dict[str, Any]] = [{}]
    if config.rerank:
        variants.append({"rerank": KReciprocal()})
    if config.query_expansion:
        variants.append({"query_expansion": AlphaExpansion(config.query_expansion)})
    return [
        evaluate_sharded(
            query_QD,
            gallery.embedding_SD,
            query_pid_Q,
            gallery.own(gallery.pid_N),
            query_camera_Q,
            gallery.own(gallery.camera_N),
            first_row=gallery.rows.start,
            num_gallery=gallery.num_gallery,
            metric=metric,
            protocol="market1501",
            average_precision=config.average_precision,
            **variant,
        )
        for variant in variants
    ]


def draw_queries(images: ImageDataset, protocol: str, config: ScoreConfig, seed: int) -> Ints:
    """The course report's way: some images of a split, drawn with the seed, that query the whole split.

    Returns their positions, ascending; empty when no drawn image has anything to be found.
    """
    people = np.flatnonzero(images.pid_N > 0)
    number = min(config.validation_queries, len(people))
    drawn = np.sort(np.random.default_rng([seed, number]).choice(people, number, replace=False))
    return drawn if any(_num_hits(images, position, images, protocol) for position in drawn) else drawn[:0]


def _num_hits(queries: ImageDataset, row: int, gallery: ImageDataset, protocol: str) -> int:
    """How many gallery images show the query's person and count as a hit, other than the query itself."""
    same_G = gallery.pid_N == queries.pid_N[row]
    if protocol == "market1501":
        same_G &= gallery.camera_N != queries.camera_N[row]
    if queries is gallery:
        same_G[row] = False
    return int(same_G.sum())


def score_within(
    validation: LabeledSet, protocol: str, metric: str, config: ScoreConfig, seed: int
) -> tuple[Ints, RetrievalScores] | None:
    """Drawn validation images against the whole validation split; None when nothing can be found in it.

    Returns the rows of the drawn queries and their scores.
    """
    rows = draw_queries(validation.images, protocol, config, seed)
    if not len(rows):
        return None
    gallery = validation.shard
    scores = evaluate_sharded(
        embeddings_of(validation.predictions, rows),
        gallery.embedding_SD,
        gallery.pid_N[rows],
        gallery.own(gallery.pid_N),
        gallery.camera_N[rows],
        gallery.own(gallery.camera_N),
        first_row=gallery.rows.start,
        num_gallery=gallery.num_gallery,
        metric=metric,
        protocol=protocol,
        average_precision=config.average_precision,
        query_rows=rows,
    )
    return rows, scores


def retrieval_entry(
    query_split: str, gallery_split: str, scores: RetrievalScores, *, flip: bool, crops: int
) -> dict[str, Any]:
    """Scores as the report keeps them; flip, crops: the views of an image that embeddings were averaged over."""
    summary = scores.summary()
    stamp = f"{summary['stamp']} flip={'averaged' if flip else 'none'} crops={crops}"
    return {"split": split_pair(query_split, gallery_split), **summary, "flip": flip, "crops": crops, "stamp": stamp}


def attribute_entry(labeled: LabeledSet, train_attributes_NA: Ints) -> Attributes | None:
    """The report's attribute scores of a split, or None when model or images have no attributes."""
    images, predicted_NA = labeled.images, labeled.predictions.attribute_NA.numpy()
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
        "split": labeled.split,
        "train_split": "train",
        "conventions": summary["conventions"],
        "per_group": summary["per_group"],
    }


def junk_entry(labeled: LabeledSet) -> Junk | None:
    """How well the junk score tells people from distractors and junk; None without both or without attributes."""
    person_N = labeled.images.pid_N > 0
    if not labeled.predictions.attribute_NA.shape[1] or person_N.all() or not person_N.any():
        return None
    auc = junk_auc(labeled.predictions.junk_score_N.double().numpy(), person_N)
    return {"auc": auc, "num_people": int(person_N.sum()), "num_junk": int((~person_N).sum())}


def rank_lists(
    query: LabeledSet, gallery: LabeledSet, scores: RetrievalScores, number: int, drawn: Ints | None = None
) -> tuple[list[RankList], list[RankList]]:
    """The `number` best and worst counted queries with what was found for them, for the report's pictures.

    drawn: the rows of `query` that were scored, when not all were.
    """
    rows_Q = np.arange(len(query.images)) if drawn is None else drawn
    counted = np.flatnonzero(~np.isnan(scores.ap_Q))
    order = counted[np.argsort(-scores.ap_Q[counted], kind="stable")]
    best, worst = order[:number].tolist(), order[::-1][:number].tolist()
    places = np.array(sorted({*best, *worst}), np.int64)
    if not len(places):
        return [], []
    found = zip(places.tolist(), *_found(query, gallery, rows_Q[places], scores), strict=True)
    shown = {
        place: RankList(
            query=_shown(query.images, int(rows_Q[place]), None, None),
            matches=_matches(query.images, int(rows_Q[place]), gallery.images, rows, distances),
            average_precision=float(scores.ap_Q[place]),
            num_hits=_num_hits(query.images, int(rows_Q[place]), gallery.images, scores.protocol),
        )
        for place, rows, distances in found
    }
    return [shown[place] for place in best], [shown[place] for place in worst]


def _found(
    query: LabeledSet, gallery: LabeledSet, rows_P: Ints, scores: RetrievalScores
) -> tuple[Ints, npt.NDArray[np.float32]]:
    """The first gallery rows found for some queries, by the protocol's own rules; never the query itself."""
    shard = gallery.shard
    rules: dict[str, Any] = {"query_rows": rows_P}  # the course's queries are rows of the gallery
    if scores.protocol == "market1501":
        rules = {
            "query_pids": query.images.pid_N[rows_P],
            "shard_pids": shard.own(shard.pid_N),
            "query_cameras": query.images.camera_N[rows_P],
            "shard_cameras": shard.own(shard.camera_N),
        }
    k = min(SHOWN_MATCHES, len(gallery.images))
    query_PD = embeddings_of(query.predictions, rows_P)
    return top_k_sharded(
        query_PD,
        shard.embedding_SD,
        k,
        first_row=shard.rows.start,
        num_gallery=shard.num_gallery,
        metric=scores.metric,
        **rules,
    )


def _matches(
    queries: ImageDataset, row: int, gallery: ImageDataset, rows_k: Ints, distances_k: npt.NDArray[np.float32]
) -> tuple[Shown, ...]:
    return tuple(
        _shown(gallery, int(found), float(distance), bool(gallery.pid_N[found] == queries.pid_N[row]))
        for found, distance in zip(rows_k, distances_k, strict=True)
        if found != NO_ROW
    )


def _shown(images: ImageDataset, position: int, distance: float | None, correct: bool | None) -> Shown:
    pixels = images.crops.crops_N3HW[images.row_N[position]].transpose(1, 2, 0)
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
