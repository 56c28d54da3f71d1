"""Saved embeddings of a data set: writing them after scoring, and scoring from them alone."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from reid_accel.config.schema import ScoreConfig
from reid_accel.distributed.collectives import Group
from reid_accel.errors import InputError
from reid_accel.evaluation.evaluate import retrieval_entries, score_variants
from reid_accel.files import read_text, write_json
from reid_accel.retrieval.distances import shard_rows
from reid_accel.retrieval.features import Embeddings, read_features, save_features

ABOUT_FILE = "about.json"
SPLITS = ("query", "gallery")


@dataclass(frozen=True)
class FeaturesOrigin:
    """How saved features were computed."""

    fingerprint: str
    """Model and data."""
    metric: str
    flip: bool
    crops: int


def write_saved_features(folder: Path, embeddings: dict[str, Embeddings], origin: FeaturesOrigin) -> None:
    """Write the embeddings of query and gallery with their labels; process 0 writes.

    Every process calls it with its own rows.
    """
    group = Group.of()
    for split in SPLITS:
        own = embeddings[split]
        features_ND = group.gather_rows(own.embedding_SD.cpu())
        if features_ND is not None:
            rows = range(own.num_rows)
            save_features(
                folder, split, replace(own, embedding_SD=features_ND, rows=rows, fingerprint=origin.fingerprint)
            )
    if group.is_main:
        write_json(folder / ABOUT_FILE, vars(origin))


def score_saved_features(
    folder: Path, config: ScoreConfig, device: torch.device
) -> tuple[list[dict[str, Any]], dict[str, Embeddings]]:
    """The report's retrieval entries from saved features, and the features.

    Every process calls it and takes its own rows of the gallery. Raises InputError if the folder contains no features,
    or features of different models.
    """
    try:
        about = json.loads(read_text(folder / ABOUT_FILE))
        # older features have one crop
        origin = FeaturesOrigin(
            str(about["fingerprint"]), str(about["metric"]), bool(about["flip"]), int(about.get("crops", 1))
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder} contains no saved features ({error}); create them with --model RUN/model --features {folder}"
        ) from error
    query, gallery = (read_features(folder, split, origin.fingerprint) for split in SPLITS)
    group = Group.of()
    shard = gallery.shard(shard_rows(gallery.num_rows, group.size, group.rank))
    scores = score_variants(query.to(device), shard.to(device), origin.metric, config)
    if not scores:
        raise InputError(
            f"none of the queries in {folder} has an image of the same person in the gallery: nothing can be scored"
        )
    entries = retrieval_entries("query", "gallery", scores, flip=origin.flip, crops=origin.crops)
    return entries, {"query": query, "gallery": gallery}
