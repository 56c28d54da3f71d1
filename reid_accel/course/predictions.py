"""Files for unlabeled images: attributes of each test image, ranked test images of each query.

What the course hands in, and useful for any folder of crops.
"""

from pathlib import Path

import numpy as np

from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.config.schema import PredictConfig
from reid_accel.course.submission import write_classification, write_rank_lists
from reid_accel.data.dataset import ImageDataset
from reid_accel.files import write_text
from reid_accel.models.reid import Architecture
from reid_accel.retrieval.embed import Predictions, embeddings_of
from reid_accel.retrieval.sharded import top_k_sharded

CLASSIFICATION_FILE = "classification_test.csv"
RANK_LISTS_FILE = "reid_test.txt"
JUNK_SCORES_FILE = "junk_scores.tsv"


def write_predictions(
    folder: Path,
    queries: tuple[ImageDataset, Predictions],
    test: tuple[ImageDataset, Predictions],
    architecture: Architecture,
    config: PredictConfig,
    *,
    is_main_process: bool,
) -> list[Path]:
    """Write reid_test.txt, and with attributes classification_test.csv and junk_scores.tsv; returns the paths.

    Every process calls it; process 0 writes.
    """
    written = [folder / RANK_LISTS_FILE]
    names = test[0].name_N
    length = min(config.rank_list_length, len(names))
    rows_Qk, _ = top_k_sharded(
        embeddings_of(queries[1], np.arange(len(queries[0]))),
        test[1].embedding_SD,
        length,
        first_row=test[1].first_row,
        num_gallery=len(names),
        metric=architecture.metric,
    )
    if not is_main_process:
        return []
    write_rank_lists(written[0], queries[0].name_N, [[names[row] for row in rows] for rows in rows_Qk])
    if architecture.groups:
        written.append(write_junk_scores(folder, *test))
    if architecture.groups == MARKET_GROUPS:
        written.append(folder / CLASSIFICATION_FILE)
        write_classification(written[-1], names, test[1].attribute_NA.numpy(), config.multicolor_columns)
    return written


def write_junk_scores(folder: Path, images: ImageDataset, predictions: Predictions) -> Path:
    """Write junk_scores.tsv: each image's sum of squared attribute scores; low means distractor or junk."""
    path = folder / JUNK_SCORES_FILE
    lines = [
        f"{name}\t{score:.6f}" for name, score in zip(images.name_N, predictions.junk_score_N.tolist(), strict=True)
    ]
    write_text(path, "\n".join(["id\tjunk_score", *lines]) + "\n")
    return path
