"""Whether the labeled test images can be scored: queries without a match, and rankings that can't be wrong."""

from collections.abc import Iterator

import numpy as np
import torch

from reid_accel.data.dataset import ImageDataset
from reid_accel.doctor.findings import Finding, Splits, each_alone, number_of
from reid_accel.retrieval.features import Embeddings
from reid_accel.retrieval.protocol import MARKET, MatchRows, find_match_rows, fitting_protocol


def match_findings(splits: Splits) -> Iterator[Finding]:
    """Findings on query and gallery, by the protocol that scoring would choose."""
    if "query" not in splits:
        return
    rows = np.flatnonzero(splits["query"].pid_N > 0)
    query, gallery = splits["query"].select(rows), splits["gallery"]
    protocol = fitting_protocol(query, gallery)
    if protocol is None:
        yield Finding(
            "no-matches",
            "error",
            f"none of the {len(query):,} queries has an image of the same person among the {len(gallery):,} gallery "
            "images: mAP has no meaning",
            "Query and gallery must be from the same set and number people alike; check the file names.",
        )
        return
    if protocol != MARKET:
        yield Finding(
            "no-camera-rule",
            "warning",
            f"no query has an image of the same person by another camera in the gallery: scores have the protocol "
            f"{protocol!r}, which is easier, and are not comparable with those of {MARKET}",
            "Check the camera numbers; with one camera only, compare such scores with each other alone.",
        )
    yield from _about_matches(find_match_rows(_labels(query), _labels(gallery), protocol), rows, protocol)


def _about_matches(matches: MatchRows, rows: np.ndarray, protocol: str) -> Iterator[Finding]:
    lost = rows[~matches.valid_Q]
    if len(lost):
        where = "by another camera in the gallery" if protocol == MARKET else "in the gallery"
        yield Finding(
            "queries-without-match",
            "warning",
            f"{number_of(len(lost), 'query has', 'queries have')} no image of the same person {where}: scores leave "
            f"{'it' if len(lost) == 1 else 'them'} out",
            "Add gallery images of these people, or remove the queries; the scores are of the remaining ones.",
            each_alone("query", lost),
        )
    if matches.num_wrong_pairs == 0:
        yield Finding(
            "only-matches",
            "error",
            "no query has a gallery image of anybody else: every ranking is right, and mAP is always 100 %",
            "Add gallery images of other people.",
        )


def _labels(images: ImageDataset) -> Embeddings:
    """The labels of a split as scoring takes them."""
    nothing = torch.zeros(len(images), 1)
    return Embeddings(nothing, range(len(images)), images.pid_N, images.camera_N, tracklet_N=images.tracklet_N)
