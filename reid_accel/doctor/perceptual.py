"""Perceptual hashes of the library `imagehash`, and the pairs of images whose hashes are nearly the same.

Legend: N hashes.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

HASH_BITS = 64
MOST_BITS = 4
"""Copies that were stored again with JPEG quality 30, at half the size or 5 % brighter differ by no more bits."""
NO_HASH = np.uint64(0)

Hashes = npt.NDArray[np.uint64]


def has_library() -> bool:
    """Whether `imagehash` is installed (pip install "reid_accel[doctor]")."""
    try:
        import imagehash  # noqa: F401
    except ImportError:
        return False
    return True


def perceptual_hash(image: Image.Image) -> np.uint64:
    """The 64 bits of `imagehash.phash`; 0 without the library."""
    if not has_library():
        return NO_HASH
    import imagehash

    bits = imagehash.phash(image, hash_size=8).hash
    return np.uint64(int.from_bytes(np.packbits(bits).tobytes(), "big"))


def near_pairs(hash_N: Hashes, most_pairs: int) -> tuple[npt.NDArray[np.int64], bool]:
    """Pairs of positions (first < second) whose hashes differ by at most MOST_BITS bits, and whether that is all.

    Of five pieces of a hash at least one is then the same: only hashes with an equal piece are compared, so that time
    and memory are far below the square of N. Stops when `most_pairs` are found.
    """
    found: set[tuple[int, int]] = set()
    for low, high in _pieces():
        piece_N = (hash_N >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(piece_N, kind="stable")
        for first, second in _equal_neighbors(piece_N[order]):
            near = _at_most_bits(hash_N[order[first]] ^ hash_N[order[second]])
            pairs = np.sort(np.stack([order[first[near]], order[second[near]]], 1), axis=1)
            found.update(map(tuple, pairs.tolist()))
            if len(found) > most_pairs:
                return np.array(sorted(found)[:most_pairs], np.int64), False
    return np.array(sorted(found), np.int64).reshape(-1, 2), True


def _pieces() -> Iterator[tuple[int, int]]:
    edges = np.linspace(0, HASH_BITS, MOST_BITS + 2).round().astype(int).tolist()
    yield from itertools.pairwise(edges)


def _equal_neighbors(
    sorted_N: Hashes,
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """(first, second) positions of equal values in a sorted array, one distance between them after the other."""
    first, distance = np.arange(len(sorted_N)), 1
    while len(first):
        first = first[first + distance < len(sorted_N)]
        first = first[sorted_N[first] == sorted_N[first + distance]]
        yield first, first + distance
        distance += 1


def _at_most_bits(difference_N: Hashes) -> npt.NDArray[np.bool_]:
    """Where at most MOST_BITS bits are set: each step clears the lowest set bit."""
    for _ in range(MOST_BITS):
        difference_N = difference_N & (difference_N - np.uint64(1) * (difference_N > 0))
    return difference_N == 0
