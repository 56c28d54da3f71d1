"""Time and memory of scoring, compared with plain retrieval and with the matrix product alone.

Each size is measured in its own process, so that memory is not inherited; the methods alternate, and medians are shown.
"""

import gc
import multiprocessing
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from reid_accel.benchmarks.plain_retrieval import plain_mean_ap, plain_reranked_mean_ap
from reid_accel.errors import InputError
from reid_accel.files import write_json
from reid_accel.retrieval.api import evaluate
from reid_accel.retrieval.features import Embeddings, Int64Array
from reid_accel.retrieval.protocol import Settings
from reid_accel.retrieval.rerank import KReciprocal

if TYPE_CHECKING:
    from rich.table import Table

STATM = Path("/proc/self/statm")
MEMINFO = Path("/proc/meminfo")
WIDTH = 120
"""Columns of the table in a file or a pipe."""
CHUNK_ROWS = 8192
MATCHING_ROWS = 13_115
SEPARATION = 2.6
"""Distance between people, chosen to give about Market-1501's mAP at 3368 x 15,913."""
NUM_PEOPLE = 750
NUM_CAMERAS = 6


@dataclass(frozen=True)
class Size:
    """One line of the table."""

    num_queries: int
    num_gallery: int
    dimension: int
    rerank: bool
    turns: int

    @property
    def title(self) -> str:
        what = "re-ranking " if self.rerank else ""
        return f"{what}{self.num_queries:,} x {self.num_gallery:,} x {self.dimension:,}"

    @property
    def plain_bytes(self) -> int:
        """Memory of plain retrieval: float32 distances, int64 orders and, for re-ranking, encodings."""
        if self.rerank:
            return (self.num_queries + self.num_gallery) ** 2 * (4 + 8 + 4 + 4 + 4)
        return self.num_queries * self.num_gallery * (4 + 4 + 8)


@dataclass(frozen=True)
class Measured:
    """Medians in seconds, peaks in MiB above the features; None where not run or not measurable."""

    title: str
    seconds: float
    peak_mib: float | None
    product_seconds: float
    plain_seconds: float | None
    plain_peak_mib: float | None
    mean_ap: float
    plain_mean_ap: float | None


FULL = (
    Size(3368, 15_913, 512, rerank=False, turns=5),
    Size(3368, 15_913, 2048, rerank=False, turns=5),
    Size(3368, 15_913, 512, rerank=True, turns=1),
    Size(3368, 519_645, 512, rerank=False, turns=1),
)
QUICK = (
    Size(300, 3000, 256, rerank=False, turns=3),
    Size(300, 1500, 256, rerank=True, turns=1),
)


def run(*, quick: bool = False, device: str = "cpu", json_path: Path | None = None) -> list[Measured]:
    """Measure every size and print the table."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("no CUDA device found: omit --device")
    from reid_accel.reporting.console import PlainConsole  # rich; GPU machines may lack it

    console = PlainConsole(width=WIDTH)
    sizes = QUICK if quick else FULL
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    measured = []
    for size in sizes:
        console.print(f"measuring {size.title} ...", style="dim")
        # a fresh process: memory left over from one size would hide what the next one needs
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            measured.append(process.submit(measure, size, device).result())
    console.print(_table(measured, f"{_hardware(device)}, load before the run {load}"))
    if json_path is not None:
        write_json(json_path, [asdict(line) for line in measured])
    return measured


def measure(size: Size, device: str) -> Measured:
    """Measure one size on `device`; runs in its own process."""
    _warm_up(device)
    query_QD, gallery_GD, *labels = generate(size, device)
    ours = partial(mean_ap_of, query_QD, gallery_GD, labels, rerank=size.rerank)
    plain: Callable[[], float] = partial(plain_mean_ap, query_QD, gallery_GD, *labels)
    if size.rerank:
        plain = partial(plain_reranked_mean_ap, query_QD, gallery_GD, *labels, rerank=KReciprocal())
    has_room = device != "cpu" or size.plain_bytes < 0.8 * _available_bytes()
    peak, seconds, mean_ap = watched(ours, device)
    plain_peak, plain_seconds, plain_ap = watched(plain, device) if has_room else (None, None, None)
    times, plain_times, product_times = [seconds], [plain_seconds], []
    for turn in range(size.turns):
        product_times.append(seconds_of(partial(product, query_QD, gallery_GD), device))
        if size.turns > 1:  # the first calls included memory sampling and a cold start
            times = [*times[turn == 0 :], seconds_of(ours, device)]
            if has_room:
                plain_times = [*plain_times[turn == 0 :], seconds_of(plain, device)]
    return Measured(
        title=size.title,
        seconds=statistics.median(times),
        peak_mib=peak,
        product_seconds=statistics.median(product_times),
        plain_seconds=statistics.median([t for t in plain_times if t is not None]) if has_room else None,
        plain_peak_mib=plain_peak,
        mean_ap=mean_ap,
        plain_mean_ap=plain_ap,
    )


def generate(
    size: Size, device: str
) -> tuple[torch.Tensor, torch.Tensor, Int64Array, Int64Array, Int64Array, Int64Array]:
    """Seeded unit features around one center per person, made in chunks; the last rows are distractors."""
    rng = np.random.default_rng(0)
    num_matching = min(MATCHING_ROWS, size.num_gallery * 4 // 5)
    query_pids = rng.integers(1, NUM_PEOPLE + 1, size.num_queries)
    gallery_pids = np.zeros(size.num_gallery, dtype=np.int64)
    gallery_pids[:num_matching] = rng.integers(1, NUM_PEOPLE + 1, num_matching)
    center_PD = rng.standard_normal((NUM_PEOPLE + 1, size.dimension), dtype=np.float32)
    center_PD[0] = 0  # distractors are pure noise

    def draw(pids: Int64Array) -> torch.Tensor:
        features = torch.empty(len(pids), size.dimension)
        for first in range(0, len(pids), CHUNK_ROWS):
            some = pids[first : first + CHUNK_ROWS]
            noise = rng.standard_normal((len(some), size.dimension), dtype=np.float32)
            # some images are much harder than others, as in real sets
            clear = SEPARATION * size.dimension**-0.25 * np.exp(0.5 * rng.standard_normal(len(some)))
            chunk = torch.from_numpy(clear[:, None].astype(np.float32) * center_PD[some] + noise)
            features[first : first + len(some)] = torch.nn.functional.normalize(chunk)
        return features.to(device)

    return (
        draw(query_pids),
        draw(gallery_pids),
        query_pids,
        gallery_pids,
        rng.integers(0, NUM_CAMERAS, size.num_queries),
        rng.integers(0, NUM_CAMERAS, size.num_gallery),
    )


def mean_ap_of(
    query_QD: torch.Tensor, gallery_GD: torch.Tensor, labels: list[Int64Array], *, rerank: bool = False
) -> float:
    """mAP as `evaluate` computes it. labels: pids of queries and gallery, then their cameras."""
    query_pids, gallery_pids, query_cameras, gallery_cameras = labels
    query = Embeddings.of(query_QD, query_pids, query_cameras)
    gallery = Embeddings.of(gallery_GD, gallery_pids, gallery_cameras)
    return evaluate(query, gallery, Settings(rerank=KReciprocal() if rerank else None)).mean_ap


def product(query_QD: torch.Tensor, gallery_GD: torch.Tensor) -> float:
    """The matrix product alone, in chunks that fit into memory."""
    total = 0.0
    for part_GD in gallery_GD.split(CHUNK_ROWS):
        total += float((query_QD @ part_GD.T)[0, 0])
    return total


def seconds_of(work: Callable[[], float], device: str) -> float:
    """Seconds of one call, including the device's work."""
    gc.collect()
    _finish(device)
    start = time.perf_counter()
    work()
    _finish(device)
    return time.perf_counter() - start


def watched(work: Callable[[], float], device: str) -> tuple[float | None, float, float]:
    """(peak MiB above the initial memory, seconds, result) of one call."""
    gc.collect()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        start = time.perf_counter()
        result = work()
        _finish(device)
        seconds = time.perf_counter() - start
        return (torch.cuda.max_memory_allocated() - before) / 2**20, seconds, result
    base = _resident_bytes()
    peak, stop = [base or 0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.002):
            peak[0] = max(peak[0], _resident_bytes() or 0)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    stop.set()
    watcher.join()
    return None if base is None else (peak[0] - base) / 2**20, seconds, result


def _warm_up(device: str) -> None:
    """Load every library once, so that its memory is not counted."""
    small = Size(64, 512, 16, rerank=False, turns=1)
    query_QD, gallery_GD, *labels = generate(small, device)
    mean_ap_of(query_QD, gallery_GD, labels, rerank=True)
    plain_mean_ap(query_QD, gallery_GD, *labels)


def _finish(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _resident_bytes() -> int | None:
    """Resident memory of this process; None where the system doesn't report it."""
    if not STATM.exists():
        return None
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _available_bytes() -> float:
    if not MEMINFO.exists():
        return float("inf")
    fields = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def _hardware(device: str) -> str:
    if device != "cpu":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _table(measured: list[Measured], caption: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title="Scoring (queries x gallery x dimension)", caption=caption, box=box.SIMPLE_HEAD)
    for name in (
        "size",
        "ours\ns",
        "ours\nMiB",
        "product\ns",
        "ours /\nproduct",
        "plain\ns",
        "plain\nMiB",
        "plain /\nours",
        "mAP ours,\nplain",
    ):
        table.add_column(name, justify="left" if name == "size" else "right", no_wrap=True)
    for line in measured:
        plain = line.plain_seconds
        table.add_row(
            line.title,
            f"{line.seconds:.2f}",
            _shown(line.peak_mib, ".0f"),
            f"{line.product_seconds:.2f}",
            f"{line.seconds / line.product_seconds:.2f}",
            _shown(plain, ".2f"),
            _shown(line.plain_peak_mib, ".0f"),
            _shown(None if plain is None else plain / line.seconds, ".1f"),
            f"{line.mean_ap:.6f}\n{_shown(line.plain_mean_ap, '.6f')}",
        )
    return table


def _shown(number: float | None, form: str) -> str:
    return "-" if number is None else format(number, form)
