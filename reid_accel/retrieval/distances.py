"""Distances between queries and gallery rows, in panels of some queries x all gallery rows.

A panel consists of tiles, one matrix product each. The last bit of a matrix product may depend on the shape and the
memory alignment of its operands. So every product here has the same shape (zero-padded), starts at an aligned address,
and covers gallery rows fixed by their global number: a gallery sharded over several ranks gives bit-identical
distances to one on a single rank.

Letters: Q queries, G gallery rows (of this rank, padded to full tiles in a panel), D feature, B rows of a block.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat

import torch

from reid_accel.errors import InputError
from reid_accel.retrieval.features import BoolArray

GALLERY_BLOCK = 1024
"""Gallery rows in a tile; shards start at multiples of it."""

QUERY_BLOCK = 512
"""Query rows in a panel, unless chunk_bytes allows only fewer."""

CHUNK_BYTES = 256 * 2**20
"""Default size of a panel of distances."""

LARGEST_SQUARE = 1e37
"""A sum of four squared lengths up to this limit does not overflow float32."""

ALIGNMENT_BYTES = 64

TASKS_PER_THREAD = 8
"""Parts of a panel per thread, for load balancing between threads."""

METRICS = ("euclidean", "cosine")


@dataclass(frozen=True)
class GalleryTiles:
    """Gallery rows with the terms that turn a product of features into a distance; built by `prepare_gallery`."""

    feature_GD: torch.Tensor
    first_row: int
    """Global row number of the first row; a multiple of `block`."""
    block: int
    bias_G: torch.Tensor
    """Bias per gallery row, infinite for dropped and padded rows."""
    scale_G: torch.Tensor | None
    """Factor per gallery row (cosine only)."""

    @property
    def num_tiles(self) -> int:
        return -(-self.feature_GD.shape[0] // self.block)

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return self.num_tiles * self.block


def prepare_gallery(
    gallery_GD: torch.Tensor,
    *,
    metric: str,
    dropped_G: BoolArray | None = None,
    first_row: int = 0,
    block: int = GALLERY_BLOCK,
    name: str = "gallery_features",
) -> GalleryTiles:
    """Check the gallery's rows and precompute their terms; the features are not copied.

    `dropped_G` marks rows that must never be found (junk): their distance is infinite.
    """
    assert first_row % block == 0, f"a shard begins at row {first_row}, not at a multiple of {block}"
    num_rows = gallery_GD.shape[0]
    square_G = _square_lengths(gallery_GD, block)
    _check_finite(name, gallery_GD, square_G, first_row)
    never_G = torch.ones(-(-num_rows // block) * block, dtype=torch.bool, device=gallery_GD.device)
    never_G[:num_rows] = False if dropped_G is None else torch.from_numpy(dropped_G).to(gallery_GD.device)
    bias_G = torch.zeros(len(never_G), device=gallery_GD.device)
    scale_G = None
    if metric == "euclidean":
        bias_G[:num_rows] = square_G
    else:
        _check_directions(name, square_G, never_G[:num_rows], first_row)
        scale_G = torch.zeros_like(bias_G)
        scale_G[:num_rows] = torch.where(never_G[:num_rows], 0.0, square_G.rsqrt())
    return GalleryTiles(gallery_GD, first_row, block, bias_G.masked_fill(never_G, torch.inf), scale_G)


def query_block_rows(num_queries: int, num_gallery: int, chunk_bytes: int, block: int = GALLERY_BLOCK) -> int:
    """Query rows per panel: a power of two, so that a panel over the full gallery fits into `chunk_bytes`.

    It depends on the full gallery's size, not on a shard's, for the same reason as the tiles.
    """
    row_bytes = 4 * block * -(-num_gallery // block)
    wanted = min(QUERY_BLOCK, max(16, num_queries), max(1, chunk_bytes // row_bytes))
    return 1 << (wanted.bit_length() - 1)


def distance_panels(
    query_QD: torch.Tensor, gallery: GalleryTiles, *, metric: str, query_block: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (first query row, distances of the next query rows to every gallery column [B, width]).

    Euclidean distances are SQUARED (they order like the mean squared difference); cosine ones are 1 - cosine.
    None is below 0. Dropped rows and padding are infinitely far. The panel is overwritten by the next one.
    """
    num_queries, dim = query_QD.shape
    device = query_QD.device
    query_BD = torch.zeros(query_block, dim, device=device)
    panel_BG = torch.empty(query_block, gallery.width, device=device)
    square_Q = _square_lengths(query_QD, query_block)
    _check_finite("query_features", query_QD, square_Q, 0)
    if metric == "cosine":
        _check_directions("query_features", square_Q, torch.zeros_like(square_Q, dtype=torch.bool), 0)
    with _tile_workers(gallery, query_BD, panel_BG) as fill:
        for start in range(0, num_queries, query_block):
            stop = min(start + query_block, num_queries)
            square_B = square_Q[start:stop]
            bias_B1 = torch.ones(query_block, 1, device=device)
            query_BD.zero_()
            query_BD[: stop - start] = query_QD[start:stop]
            if metric == "euclidean":
                query_BD.mul_(-2)
                bias_B1[: stop - start, 0] = square_B
            else:
                query_BD[: stop - start].mul_(-square_B.rsqrt()[:, None])
            fill(bias_B1)
            yield start, panel_BG[: stop - start]


@contextmanager
def _tile_workers(
    gallery: GalleryTiles, query_BD: torch.Tensor, panel_BG: torch.Tensor
) -> Iterator[Callable[[torch.Tensor], None]]:
    """A function that fills the panel for the queries in `query_BD`, given the bias per query.

    On the CPU each tile is computed by one thread: threads synchronize once per panel instead of in every operation
    (slow on a shared machine), and the result doesn't depend on the number of threads.
    """
    own = threading.local()

    def prepare_thread() -> None:
        own.product_BB = torch.empty(len(query_BD), gallery.block, device=query_BD.device)
        own.spare_BD = torch.empty(gallery.block, query_BD.shape[1], device=query_BD.device)

    def fill_tiles(indices: range, bias_B1: torch.Tensor) -> None:
        for index in indices:
            columns = slice(index * gallery.block, (index + 1) * gallery.block)
            torch.mm(query_BD, _tile(gallery, index, own.spare_BD).T, out=own.product_BB)
            if gallery.scale_G is not None:
                own.product_BB.mul_(gallery.scale_G[columns])
            own.product_BB.add_(gallery.bias_G[columns]).add_(bias_B1)
            torch.clamp(own.product_BB, min=0, out=panel_BG[:, columns])

    if query_BD.device.type != "cpu":
        prepare_thread()
        yield lambda bias_B1: fill_tiles(range(gallery.num_tiles), bias_B1)
        return

    num_threads = torch.get_num_threads()
    tiles_per_task = max(1, gallery.num_tiles // (num_threads * TASKS_PER_THREAD))
    tasks = [
        range(first, min(first + tiles_per_task, gallery.num_tiles))
        for first in range(0, gallery.num_tiles, tiles_per_task)
    ]

    def prepare_cpu_thread() -> None:
        torch.set_num_threads(1)  # applies to this thread and to threads started later
        prepare_thread()

    try:
        with ThreadPoolExecutor(num_threads, initializer=prepare_cpu_thread) as pool:

            def fill(bias_B1: torch.Tensor) -> None:
                for _ in pool.map(fill_tiles, tasks, repeat(bias_B1)):
                    pass  # waits, and re-raises exceptions of threads

            yield fill
    finally:
        torch.set_num_threads(num_threads)  # for threads started later


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Use full float32 precision for matrix products, even if training allows TF32 or bfloat16."""
    precision = torch.get_float32_matmul_precision()
    on_cpu = getattr(torch.backends.mkldnn, "matmul", None)  # torch 2.9 and newer: set by the call below, too
    precision_on_cpu = on_cpu.fp32_precision if on_cpu is not None else None
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        if on_cpu is not None:
            on_cpu.fp32_precision = precision_on_cpu


def _tile(gallery: GalleryTiles, index: int, spare_BD: torch.Tensor) -> torch.Tensor:
    """Float32 features of tile `index`: a view if contiguous and aligned, else a copy."""
    rows_BD = gallery.feature_GD[index * gallery.block : (index + 1) * gallery.block]
    if (
        rows_BD.dtype == torch.float32
        and rows_BD.shape[0] == gallery.block
        and rows_BD.is_contiguous()
        and rows_BD.data_ptr() % ALIGNMENT_BYTES == 0
    ):
        return rows_BD
    spare_BD[: rows_BD.shape[0]] = rows_BD
    spare_BD[rows_BD.shape[0] :] = 0
    return spare_BD


def _square_lengths(feature_ND: torch.Tensor, block: int) -> torch.Tensor:
    """Squared length of each row [N] in float32, block by block, each block in the same shape."""
    num_rows, dim = feature_ND.shape
    square_N = torch.empty(num_rows, device=feature_ND.device)
    rows_BD = torch.zeros(block, dim, device=feature_ND.device)
    for start in range(0, num_rows, block):
        part_BD = feature_ND[start : start + block]
        rows_BD[: len(part_BD)] = part_BD
        square_N[start : start + block] = rows_BD.square().sum(1)[: len(part_BD)]
    return square_N


def _check_directions(name: str, square_N: torch.Tensor, ignored_N: torch.Tensor, first_row: int) -> None:
    zero_N = (square_N < torch.finfo(torch.float32).tiny) & ~ignored_N
    if bool(zero_N.any()):
        row = first_row + int(torch.nonzero(zero_N)[0])
        raise InputError(f"{name} row {row} is all zeros: it has no direction, so no cosine distance")


def _check_finite(name: str, feature_ND: torch.Tensor, square_N: torch.Tensor, first_row: int) -> None:
    """Raise InputError for the first row with NaN, infinity, or a squared length too large for float32."""
    good_N = square_N <= LARGEST_SQUARE  # False for NaN too
    if bool(good_N.all()):
        return
    row = int(torch.nonzero(~good_N)[0])
    if bool(torch.isfinite(feature_ND[row].float()).all()):
        raise InputError(f"{name} row {first_row + row} is too large: its squared length overflows float32")
    raise InputError(f"{name} row {first_row + row} contains NaN or infinity; the model or its input is broken")


def shard_rows(num_rows: int, world_size: int, rank: int, block: int = GALLERY_BLOCK) -> range:
    """The gallery rows of process `rank`: a contiguous run of full blocks, balanced between processes.

    >>> [shard_rows(2500, 2, rank, block=1000) for rank in range(2)]
    [range(0, 1000), range(1000, 2500)]
    """
    num_blocks = -(-num_rows // block)
    first = num_blocks * rank // world_size * block
    last = num_blocks * (rank + 1) // world_size * block
    return range(min(first, num_rows), min(last, num_rows))
