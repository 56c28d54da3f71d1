"""The golden problem of Market-1501's size, generated when it is needed: plain numpy, seeded, element-wise only."""

import numpy as np

NUM_QUERIES, NUM_MATCHING, NUM_DISTRACTORS, NUM_IDS, NUM_CAMERAS = 3368, 13115, 2798, 750, 6
DIMENSION, SIGNAL = 512, 64


def medium():
    """(query, gallery, query pids, gallery pids, query cameras, gallery cameras): 3368 x 15,913 x 512.

    An image is its person's center + a camera's shift + a shift of that person under that camera, all in the first 64
    dimensions, + noise in all of them, whose size differs from image to image; rows have unit length. A person is seen
    by 3 to 6 cameras. Distractors have pid 0 and a center of their own. The order of the draws is part of the problem.
    """
    rng = np.random.default_rng(1)
    cameras_of = rng.integers(3, NUM_CAMERAS + 1, NUM_IDS)
    seen_by = [np.sort(rng.permutation(NUM_CAMERAS)[:number]) for number in cameras_of]
    pair_id = np.concatenate([np.full(len(cameras), i) for i, cameras in enumerate(seen_by)])
    pair_camera = np.concatenate(seen_by)
    num_pairs = len(pair_id)
    query_pair = np.sort(rng.permutation(num_pairs)[:NUM_QUERIES])
    gallery_pair = np.concatenate([np.arange(num_pairs), rng.integers(0, num_pairs, NUM_MATCHING - num_pairs)])
    gallery_pair = gallery_pair[rng.permutation(len(gallery_pair))]
    center = rng.standard_normal((NUM_IDS, SIGNAL), dtype=np.float32)
    of_camera = rng.standard_normal((NUM_CAMERAS, SIGNAL), dtype=np.float32) * np.float32(0.45)
    of_pair = rng.standard_normal((num_pairs, SIGNAL), dtype=np.float32) * np.float32(0.55)
    means = [
        center[pair_id[pair]] + of_camera[pair_camera[pair]] + of_pair[pair] for pair in (query_pair, gallery_pair)
    ]
    distractor_camera = rng.integers(0, NUM_CAMERAS, NUM_DISTRACTORS)
    distractor = rng.standard_normal((NUM_DISTRACTORS, SIGNAL), dtype=np.float32) * np.float32(np.sqrt(1 + 0.55**2))
    distractor = distractor + of_camera[distractor_camera]
    rng.integers(0, NUM_CAMERAS, 0), rng.integers(0, NUM_IDS, 0)  # the junk images of other problems
    query = _noisy(means[0], rng)
    gallery = _noisy(np.concatenate([means[1], distractor]), rng)
    return (
        query,
        gallery,
        pair_id[query_pair] + 1,
        np.concatenate([pair_id[gallery_pair] + 1, np.zeros(NUM_DISTRACTORS, int)]),
        pair_camera[query_pair],
        np.concatenate([pair_camera[gallery_pair], distractor_camera]),
    )


def _noisy(mean_NR, rng):
    size_N = np.exp(0.55 * rng.standard_normal(len(mean_NR))).astype(np.float32) * np.float32(0.22)
    size_N = size_N * np.float32(np.sqrt(SIGNAL / 16))
    feature_ND = np.empty((len(mean_NR), DIMENSION), np.float32)
    for first in range(0, len(mean_NR), 8192):
        some = slice(first, first + 8192)
        size_B1 = size_N[some, None]
        part = rng.standard_normal((len(size_B1), DIMENSION), dtype=np.float32)
        part = part * (size_B1 * np.float32(np.sqrt(64.0 / DIMENSION)))
        signal = rng.standard_normal((len(size_B1), SIGNAL), dtype=np.float32)
        part[:, :SIGNAL] += mean_NR[some] + signal * size_B1
        length = np.sqrt(np.square(part.astype(np.float64)).sum(1))
        feature_ND[some] = part / length[:, None].astype(np.float32)
    return feature_ND
