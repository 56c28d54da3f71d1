"""Rules on the embeddings of images: labels that contradict the neighbors, copies across splits, outliers.

Legend: N images, K nearest images of each, D feature.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from reid_accel.retrieval.api import top_k
from reid_accel.retrieval.features import Embeddings
from reid_accel.retrieval.protocol import NOTHING_REMOVED, Settings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NEAREST = 20
COMPARED = 2
"""An image is compared with its two most similar images of each person."""
SUSPECT_GAP = 0.25
OUTLIER_NEIGHBORS = 10
MOST_MISTAKEN = 0.3
COPY_SIMILARITY, USUAL_PERCENTILE = 0.92, 95
ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class Neighbors:
    """The nearest other images of each of N images: their rows, and their cosine similarities, most similar first."""

    row_NK: Ints
    similarity_NK: Floats

    @classmethod
    def of(cls, embeddings: Embeddings) -> "Neighbors":
        k = min(NEAREST + 1, embeddings.num_rows)
        row_NK, distance_NK = top_k(embeddings, embeddings, k, Settings(metric="cosine", protocol=_NOTHING))
        is_other_NK = row_NK != np.arange(len(row_NK))[:, None]
        is_other_NK[is_other_NK.all(1), -1] = False  # more exact copies than neighbors: the image itself isn't listed
        shape = (len(row_NK), k - 1)
        return cls(row_NK[is_other_NK].reshape(shape), 1 - distance_NK[is_other_NK].astype(np.float64).reshape(shape))


_NOTHING = NOTHING_REMOVED.protocol


@dataclass(frozen=True)
class Suspicion:
    """How much more similar N images are to somebody else than to their own person.

    gap_N: the difference of similarities, in units of that between images of one person and random pairs, so that it is
    the same for all kinds of features; NaN where it can't be told. else_row_N: the most similar image of that somebody,
    or -1.
    """

    gap_N: Floats
    else_row_N: Ints

    @property
    def mistaken(self) -> float:
        """The share of images that are more similar to somebody else."""
        known_N = ~np.isnan(self.gap_N)
        return float((self.gap_N[known_N] > 0).mean()) if known_N.any() else 1.0

    def suspects(self) -> Ints:
        """Rows whose gap is large, the largest first; none if the features tell people apart too poorly."""
        if self.mistaken > MOST_MISTAKEN:
            return np.empty(0, np.int64)
        found = np.flatnonzero(self.gap_N > SUSPECT_GAP)
        return found[np.argsort(-self.gap_N[found], kind="stable")].astype(np.int64)


def suspicion(embeddings: Embeddings, neighbors: Neighbors) -> Suspicion:
    """Compare each image of a person with its most similar images of that person and of anybody else.

    The similarity to a person is the mean over the COMPARED most similar images of that person; of anybody else, only
    the nearest images are considered.
    """
    own_N = _similarity_to_own(embeddings)
    else_N, else_row_N = _similarity_to_others(embeddings.pid_N, neighbors)
    unit = float(np.nanmedian(own_N)) - _similarity_of_random_pairs(embeddings) if not np.isnan(own_N).all() else 0.0
    gap_N = np.where(embeddings.pid_N > 0, (else_N - own_N) / unit if unit > 0 else np.nan, np.nan)
    return Suspicion(gap_N, np.where(np.isnan(gap_N), -1, else_row_N))


def _similarity_to_own(embeddings: Embeddings) -> Floats:
    feature_ND = torch.nn.functional.normalize(embeddings.embedding_SD.float())
    own_N = np.full(embeddings.num_rows, np.nan)
    order = np.argsort(embeddings.pid_N, kind="stable")
    for rows in np.split(order, 1 + np.flatnonzero(np.diff(embeddings.pid_N[order]))):
        if len(rows) > 1 and embeddings.pid_N[rows[0]] > 0:
            own_N[rows] = _mean_of_most_similar(feature_ND[torch.from_numpy(rows)])
    return own_N


def _similarity_of_random_pairs(embeddings: Embeddings) -> float:
    """The median similarity of each image to one that is drawn at random."""
    feature_ND = torch.nn.functional.normalize(embeddings.embedding_SD.float())
    other_N = torch.from_numpy(np.random.default_rng(0).permutation(len(feature_ND)))
    return float((feature_ND * feature_ND[other_N]).sum(1).median())


def _mean_of_most_similar(feature_PD: torch.Tensor) -> Floats:
    """For each image of a person, the mean similarity to its most similar other images."""
    found = []
    for start in range(0, len(feature_PD), ROWS_AT_ONCE):
        block = feature_PD[start : start + ROWS_AT_ONCE] @ feature_PD.T
        block[torch.arange(len(block)), start + torch.arange(len(block))] = -torch.inf
        found.append(block.topk(min(COMPARED, len(feature_PD) - 1), dim=1).values.mean(1).cpu().double())
    return torch.cat(found).numpy()


def _similarity_to_others(pid_N: Ints, neighbors: Neighbors) -> tuple[Floats, Ints]:
    """The similarity to the most similar other person among the nearest images, and that person's most similar one."""
    else_N, else_row_N = np.full(len(pid_N), -1.0), np.full(len(pid_N), -1, np.int64)
    pid_NK = pid_N[neighbors.row_NK]
    for first in range(pid_NK.shape[1]):  # each neighbor as the most similar image of its person
        same_NK = (pid_NK == pid_NK[:, [first]]) & (pid_NK != pid_N[:, None]) & (pid_NK > 0)
        is_first_N = same_NK[:, first] & ~same_NK[:, :first].any(1)
        later_NK = same_NK.copy()
        later_NK[:, : first + 1] = False
        second_N = later_NK.argmax(1)
        second_similarity_N = np.take_along_axis(neighbors.similarity_NK, second_N[:, None], 1)[:, 0]
        similarity_N = (neighbors.similarity_NK[:, first] + second_similarity_N) / 2
        better_N = is_first_N & later_NK.any(1) & (similarity_N > else_N)
        else_N[better_N] = similarity_N[better_N]
        else_row_N[better_N] = neighbors.row_NK[better_N, first]
    return else_N, else_row_N


def least_similar(neighbors: Neighbors, number: int) -> Ints:
    """The rows that are least similar to their nearest images, the least similar first."""
    similarity_N = neighbors.similarity_NK[:, :OUTLIER_NEIGHBORS].mean(1)
    return np.argsort(similarity_N, kind="stable")[:number].astype(np.int64)


def copies_across(is_train_N: Bools, neighbors: Neighbors) -> Ints:
    """Pairs (test row, train row) that are far more similar than a test image and its most similar training image
    usually are, P x 2, most similar first."""
    across_NK = is_train_N[neighbors.row_NK] & ~is_train_N[:, None]
    tested = np.flatnonzero(across_NK.any(1))
    if not len(tested):
        return np.empty((0, 2), np.int64)
    first = across_NK[tested].argmax(1)
    similarity = neighbors.similarity_NK[tested, first]
    usual = float(np.percentile(similarity, USUAL_PERCENTILE))
    found = np.flatnonzero(similarity >= max(COPY_SIMILARITY, 1 - (1 - usual) / 2))
    found = found[np.argsort(-similarity[found], kind="stable")]
    return np.stack([tested[found], neighbors.row_NK[tested[found], first[found]]], 1).astype(np.int64)
