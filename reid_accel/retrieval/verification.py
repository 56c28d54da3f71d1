"""TPR at low FPR over all pairs: how many right pairs are accepted while few wrong ones are.

A threshold accepts every pair that is as near or nearer. The TPR at FPR f is the largest share of right pairs (query
and hit) that a threshold accepts while it accepts at most the share f of the wrong pairs (query and another
person). A right pair at distance d is among them exactly if at most f * wrong pairs are as near as d, so it is enough
to count, and enough to keep the nearest hundredth of all distances.
"""

import numpy as np
import numpy.typing as npt

from reid_accel.retrieval.checks import BoolArray, Int64Array
from reid_accel.retrieval.protocol import MatchRows

Float32Array = npt.NDArray[np.float32]

ONE_IN = {"1e-4": 10_000, "1e-3": 1_000, "1e-2": 100}
"""The false positive rates, as one wrong pair in so many."""

ROOM = 1 << 16


class NearestPairs:
    """Keeps the `num_wanted` smallest of all distances that it is given, in a buffer of bounded size."""

    def __init__(self, num_wanted: int) -> None:
        self._num_wanted = num_wanted
        self._kept = np.empty(num_wanted + max(num_wanted // 2, ROOM), dtype=np.float32)
        self._num_kept = 0
        self.limit = np.finfo(np.float32).max
        """Distances above it need not be given any more; infinite ones never."""

    @classmethod
    def wanted_for(cls, relatives: MatchRows) -> "NearestPairs":
        """Enough to see one wrong pair more than the largest FPR allows, with all relatives in front of it."""
        return cls(relatives.num_wrong_pairs // min(ONE_IN.values()) + 1 + len(relatives.row_R))

    def add(self, distances: Float32Array) -> None:
        """Take in distances in any order."""
        while len(distances):
            if self._num_kept == len(self._kept):
                self._forget_far_ones()
            some = distances[: len(self._kept) - self._num_kept]
            self._kept[self._num_kept : self._num_kept + len(some)] = some
            self._num_kept += len(some)
            distances = distances[len(some) :]

    def as_near_as(self, distance_R: Float32Array, hit_R: BoolArray) -> Int64Array:
        """Number of given distances up to each hit's [R]; exact while below `num_wanted`, else at least that."""
        near = self._kept[: self._num_kept]
        near.sort()  # in place: of a large gallery a hundredth is large too
        return np.where(hit_R, near.searchsorted(distance_R, side="right"), 0).astype(np.int64)

    def _forget_far_ones(self) -> None:
        self._kept.partition(self._num_wanted - 1)
        self._num_kept = self._num_wanted
        self.limit = self._kept[self._num_wanted - 1]


def count_false_accepts(as_near_R: Int64Array, distance_R: Float32Array, relatives: MatchRows) -> Int64Array:
    """Take the relatives (right and removed pairs) of counted queries off the number of pairs as near as each hit."""
    counted_R = relatives.valid_Q[relatives.query_R]
    related = np.sort(distance_R[counted_R]).searchsorted(distance_R, side="right")
    return np.where(relatives.hit_R, as_near_R - related, 0).astype(np.int64)


def tpr_at_fpr(false_accepts_R: Int64Array, relatives: MatchRows) -> dict[str, float]:
    """The TPR at each rate of `ONE_IN`, in [0, 1]; 1 where there is no wrong pair at all."""
    false_accepts_H = false_accepts_R[relatives.hit_R]
    wrong = relatives.num_wrong_pairs
    return {rate: float((false_accepts_H <= wrong // one_in).mean()) for rate, one_in in ONE_IN.items()}
