"""Scoring: speed of embedding, ranking and re-ranking on a device, relative to the matrix product they require."""

import statistics
from collections.abc import Callable, Iterator

import torch

from reid_accel.benchmarks.gpu.made_run import made_config, made_images, made_trainer
from reid_accel.benchmarks.gpu.ranking import embed
from reid_accel.benchmarks.gpu.rows import SCORING, Row
from reid_accel.benchmarks.gpu.setup import Setup, require_memory
from reid_accel.benchmarks.retrieval import Size, generate, mean_ap_of, product, seconds_of, watched

MARKET = Size(3368, 15_913, 512, rerank=False, turns=5)
MARKET_RERANKED = Size(3368, 15_913, 512, rerank=True, turns=1)
DISTRACTORS = Size(3368, 515_913, 512, rerank=False, turns=3)
DISTRACTORS_RERANKED = Size(3368, 515_913, 512, rerank=True, turns=1)


def embedding_speed(setup: Setup) -> Iterator[Row]:
    """Images per second through the network in float32, as in scoring."""
    number = 4096 if setup.large else 64
    config = made_config(setup, 64 if setup.large else 8)
    images = made_images(config, number)
    with made_trainer(setup, config, images) as trainer:

        def work() -> float:
            return float(embed(trainer.unwrapped, images.images).embedding_SD[0, 0])

        work()
        seconds = seconds_of(work, setup.device.type)
    speed = number / seconds
    yield Row(SCORING, "embedding, float32", "measured", f"{speed:,.0f} images/s", {"images_per_second": speed})


def ranking_speed(size: Size) -> Callable[[Setup], Iterator[Row]]:
    """A part that measures scoring, re-ranked or not, at one size; on the CPU at a small size."""

    def measure(setup: Setup) -> Iterator[Row]:
        """Seconds, peak memory and the ratio to the matrix product."""
        taken = size if setup.large else Size(100, 500, 64, rerank=size.rerank, turns=1)
        device = setup.device.type
        require_memory(setup.device, 4 + 3 * taken.num_gallery * taken.dimension * 4 / 2**30)
        query_QD, gallery_GD, *labels = generate(taken, device)

        def work() -> float:
            return mean_ap_of(query_QD, gallery_GD, labels, rerank=taken.rerank)

        peak, first, mean_ap = watched(work, device)
        seconds = [seconds_of(work, device) for _ in range(taken.turns)] if taken.turns > 1 else [first]
        products = [seconds_of(lambda: product(query_QD, gallery_GD), device) for _ in range(taken.turns)]
        yield _row(taken, statistics.median(seconds), statistics.median(products), peak or 0.0, mean_ap)
        if device == "cuda":
            torch.cuda.empty_cache()

    return measure


def _row(size: Size, seconds: float, product_seconds: float, peak_mib: float, mean_ap: float) -> Row:
    ratio = seconds / product_seconds
    result = f"{seconds:.3g} s, {ratio:.2g} x its matrix product; peak {peak_mib:,.0f} MiB; mAP {mean_ap:.6f}"
    numbers = {"seconds": seconds, "ratio": ratio, "peak_mib": peak_mib, "mean_ap": mean_ap}
    return Row(SCORING, size.title, "measured", result, numbers)
