"""Files for unlabeled images: attributes of each test image, ranked test images of each query.

What the course hands in, and useful for any folder of crops.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.config.schema import PredictConfig
from reid_accel.course.submission import write_classification, write_rank_lists
from reid_accel.data.checks import formula_warning
from reid_accel.distributed.collectives import Group
from reid_accel.export.metadata import GraphInfo
from reid_accel.files import write_csv, write_text
from reid_accel.models.reid import Architecture
from reid_accel.retrieval.api import top_k
from reid_accel.retrieval.embed import AttributePredictions
from reid_accel.retrieval.features import Embeddings
from reid_accel.retrieval.protocol import Settings

logger = logging.getLogger(__name__)

CLASSIFICATION_FILE = "classification_test.csv"
RANK_LISTS_FILE = "reid_test.txt"
JUNK_SCORES_FILE = "junk_scores.tsv"
DISTANCES_FILE = "distances.tsv"
ATTRIBUTES_FILE = "attributes.csv"


def write_predictions(
    folder: Path,
    queries: Embeddings,
    test: Embeddings,
    attributes: AttributePredictions,
    architecture: Architecture | GraphInfo,
    config: PredictConfig,
    distances: bool = False,
) -> list[Path]:
    """Write reid_test.txt, and with attributes attributes.csv, junk_scores.tsv and, for Market-1501's attributes,
    classification_test.csv; returns the paths.

    attributes: of the test images. distances: write distances.tsv, too. Every process calls it with its own rows;
    process 0 writes.
    """
    written = [folder / RANK_LISTS_FILE]
    group = Group.of()
    length = min(config.rank_list_length, test.num_rows)
    settings = Settings(metric=architecture.metric, protocol="course")
    rows_QK, distance_QK = top_k(queries.gathered(group), test, length, settings, group)
    if not group.is_main:
        return []
    write_rank_lists(written[0], queries.name_N, [[test.name_N[row] for row in rows] for rows in rows_QK])
    if distances:
        written.append(folder / DISTANCES_FILE)
        lines = [
            f"{query}\t{test.name_N[row]}\t{distance:.6f}"
            for query, rows, values in zip(queries.name_N, rows_QK.tolist(), distance_QK.tolist(), strict=True)
            for row, distance in zip(rows, values, strict=True)
        ]
        write_text(written[-1], "\n".join(["query\tid\tdistance", *lines]) + "\n")
        _warn_of_formulas([*queries.name_N, *test.name_N], DISTANCES_FILE)
    if architecture.groups:
        written.append(write_attributes(folder, test.name_N, attributes, architecture))
        written.append(write_junk_scores(folder, test.name_N, attributes))
    if architecture.groups == MARKET_GROUPS:
        written.append(folder / CLASSIFICATION_FILE)
        write_classification(written[-1], test.name_N, attributes.value_NA, config.multicolor_columns)
        _warn_of_formulas(test.name_N, CLASSIFICATION_FILE)
    return written


def write_attributes(
    folder: Path, names: Sequence[str], attributes: AttributePredictions, architecture: Architecture | GraphInfo
) -> Path:
    """Write attributes.csv: a row per image, with the most likely value of each attribute group in words."""
    path = folder / ATTRIBUTES_FILE
    groups = architecture.groups
    rows = (
        [name, *(group.values[value] for group, value in zip(groups, values, strict=True))]
        for name, values in zip(names, attributes.value_NA.tolist(), strict=True)
    )
    write_csv(path, [["id", *(group.name for group in groups)], *rows])
    _warn_of_formulas(names, ATTRIBUTES_FILE)
    return path


def write_junk_scores(folder: Path, names: Sequence[str], attributes: AttributePredictions) -> Path:
    """Write junk_scores.tsv: each image's sum of squared attribute scores; low means distractor or junk."""
    path = folder / JUNK_SCORES_FILE
    lines = [f"{name}\t{score:.6f}" for name, score in zip(names, attributes.junk_score_N.tolist(), strict=True)]
    write_text(path, "\n".join(["id\tjunk_score", *lines]) + "\n")
    _warn_of_formulas(names, JUNK_SCORES_FILE)
    return path


def _warn_of_formulas(names: Sequence[str], file_name: str) -> None:
    warning = formula_warning(names, file_name)
    if warning is not None:
        logger.warning(warning)
