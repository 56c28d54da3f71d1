"""Saved embeddings of a data set: writing them after scoring, and scoring from them alone."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from reid_accel.config.schema import ScoreConfig
from reid_accel.distributed.collectives import ALONE, Group
from reid_accel.errors import InputError
from reid_accel.evaluation.evaluate import retrieval_entries, score_variants
from reid_accel.evaluation.tracklets import stamped, tracklets_of
from reid_accel.models.camera_embedding import knows_cameras
from reid_accel.models.reid import ReIDModel
from reid_accel.retrieval.distances import shard_rows
from reid_accel.retrieval.exported import Embedder, fingerprint_of_model
from reid_accel.retrieval.feature_files import read_features, remove_old_shards, stage_features
from reid_accel.retrieval.features import Embeddings
from reid_accel.retrieval.manifest import read_checked_json, saving, stage_json

ABOUT_FILE = "about.json"
SPLITS = ("query", "gallery")


@dataclass(frozen=True)
class FeaturesOrigin:
    """How saved features were computed."""

    fingerprint: str
    """Model, data and views: the same in all files that belong together."""
    metric: str
    flip: bool
    crops: int = 1
    edition: str = ""
    """Of a data set with several (MSMT17-V1, MSMT17-V2): part of the protocol stamp."""
    cameras_given: bool = False
    """Whether the network knew each image's camera: part of the protocol stamp."""

    @classmethod
    def of(cls, model: Embedder, data_fingerprint: str, views: ScoreConfig, edition: str = "") -> "FeaturesOrigin":
        """The origin of features that a model gives a data set."""
        fingerprint = (
            f"model {fingerprint_of_model(model)}, data {data_fingerprint}, flip {views.flip}, crops {views.crops}"
        )
        if not isinstance(model, ReIDModel):
            return cls(fingerprint, model.architecture.metric, views.flip, views.crops, edition)
        if model.camera_embedding is not None:
            fingerprint += f", cameras {'given' if knows_cameras(model) else 'unknown'}"
        return cls(fingerprint, model.architecture.metric, views.flip, views.crops, edition, knows_cameras(model))


def write_saved_features(folder: Path, embeddings: dict[str, Embeddings], origin: FeaturesOrigin) -> None:
    """Write the embeddings of query and gallery with their labels; process 0 writes.

    Every process calls it with its own rows.
    """
    group = Group.of()
    gathered = {split: group.gather_rows(embeddings[split].embedding_SD.cpu()) for split in SPLITS}
    if not group.is_main:
        return
    with saving(folder) as files:
        stage_json(files, folder / ABOUT_FILE, vars(origin))
        for split, features_ND in gathered.items():
            assert features_ND is not None, "process 0 gathers"
            own = embeddings[split]
            complete = replace(own, embedding_SD=features_ND, rows=range(own.num_rows), fingerprint=origin.fingerprint)
            stage_features(files, folder, split, complete)
    for split in SPLITS:
        remove_old_shards(folder, split)


def score_saved_features(
    folder: Path, config: ScoreConfig, device: torch.device
) -> tuple[list[dict[str, Any]], dict[str, Embeddings]]:
    """The report's retrieval entries from saved features, and the features.

    Every process calls it and takes its own rows of the gallery. Raises InputError if the folder contains no features,
    or features of different models.
    """
    if not (folder / ABOUT_FILE).exists():
        raise InputError(
            f"{folder} contains no saved features (it lacks {ABOUT_FILE}); create them with --model RUN/model "
            f"--features {folder}"
        )
    origin = read_checked_json(folder / ABOUT_FILE, FeaturesOrigin)
    query, gallery = (read_features(folder, split, origin.fingerprint) for split in SPLITS)
    if config.tracklets is not None:
        pooled = (
            tracklets_of(one, split, config.tracklets, origin.metric, ALONE)
            for one, split in zip((query, gallery), SPLITS, strict=True)
        )
        (_, query), (_, gallery) = pooled
    group = Group.of()
    shard = gallery.shard(shard_rows(gallery.num_rows, group.size, group.rank))
    scores = stamped(score_variants(query.to(device), shard.to(device), origin.metric, config), config.tracklets)
    if not scores:
        raise InputError(
            f"none of the queries in {folder} has an image of the same person in the gallery: nothing can be scored"
        )
    entries = retrieval_entries(
        "query",
        "gallery",
        scores,
        flip=origin.flip,
        crops=origin.crops,
        edition=origin.edition,
        cameras_given=origin.cameras_given,
    )
    return entries, {"query": query, "gallery": gallery}
