"""Embeddings of a scored data set on disk: writing them after scoring, and scoring again from them alone."""

import json
from pathlib import Path
from typing import Any

import torch

from reid_accel.config.schema import ScoreConfig
from reid_accel.errors import InputError
from reid_accel.evaluation.evaluate import GalleryShard, LabeledSet, retrieval_entry, score_variants
from reid_accel.files import write_json
from reid_accel.models.reid import ReIDModel, model_fingerprint
from reid_accel.retrieval.embed import whole_embedding
from reid_accel.retrieval.features import Embeddings, read_features, save_features
from reid_accel.retrieval.sharded import shard_rows

ABOUT_FILE = "about.json"
SPLITS = ("query", "gallery")


def write_saved_features(
    folder: Path,
    sets: dict[str, LabeledSet],
    model: ReIDModel,
    data_fingerprint: str,
    config: ScoreConfig,
    is_main_process: bool,
) -> None:
    """Write the embeddings of query and gallery with their labels; every process calls it, process 0 writes.

    config: what they were embedded with.
    """
    fingerprint = f"model {model_fingerprint(model)}, data {data_fingerprint}"
    for split in SPLITS:
        images = sets[split].images
        embedding_ND = whole_embedding(sets[split].predictions)
        if embedding_ND is None:
            continue
        labels = (torch.from_numpy(images.pid_N), torch.from_numpy(images.camera_N))
        save_features(folder, split, Embeddings(embedding_ND, *labels, images.name_N, fingerprint))
    about: dict[str, Any] = {"fingerprint": fingerprint, "metric": model.architecture.metric}
    about |= {"flip": config.flip, "crops": config.crops}
    if is_main_process:
        write_json(folder / ABOUT_FILE, about)


def score_saved_features(
    folder: Path, config: ScoreConfig, device: torch.device, world_size: int, rank: int
) -> tuple[list[dict[str, Any]], dict[str, Embeddings], str]:
    """The report's retrieval entries from saved features, the features, and their fingerprint.

    Every process calls it and takes its own rows of the gallery. Raises InputError when the folder holds no
    features, or those of different models.
    """
    try:
        about = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
        fingerprint, metric = str(about["fingerprint"]), str(about["metric"])
        flip, crops = bool(about["flip"]), int(about.get("crops", 1))  # older features have one
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder} holds no saved features ({error}); make them with --model RUN/model --features {folder}"
        ) from error
    query, gallery = (read_features(folder, split, fingerprint) for split in SPLITS)
    rows = shard_rows(len(gallery.name_N), world_size, rank)
    shard = GalleryShard(
        gallery.embedding_ND[rows.start : rows.stop].to(device), rows, gallery.pid_N.numpy(), gallery.camera_N.numpy()
    )
    query_QD = query.embedding_ND.to(device)
    scores = score_variants(query_QD, query.pid_N.numpy(), query.camera_N.numpy(), shard, metric, config)
    entries = [retrieval_entry("query", "gallery", each, flip=flip, crops=crops) for each in scores]
    return entries, {"query": query, "gallery": gallery}, fingerprint
