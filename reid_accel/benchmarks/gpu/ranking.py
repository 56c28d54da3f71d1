"""Correctness: embeddings, rank lists and scores on a device agree with the CPU.

Legend: Q queries, G gallery, D feature, K nearest rows.
"""

from collections.abc import Iterator
from copy import deepcopy

import numpy as np

from reid_accel.benchmarks.gpu.correctness import small_run
from reid_accel.benchmarks.gpu.made_run import made_trainer, train_steps
from reid_accel.benchmarks.gpu.rows import Row, checked, within
from reid_accel.benchmarks.gpu.setup import Setup
from reid_accel.config.schema import PredictConfig
from reid_accel.data.dataset import ImageDataset, Ints
from reid_accel.models.reid import ReIDModel
from reid_accel.retrieval.api import evaluate, top_k
from reid_accel.retrieval.embed import embed_dataset
from reid_accel.retrieval.features import Embeddings
from reid_accel.retrieval.protocol import Settings
from reid_accel.retrieval.rerank import KReciprocal

NEAREST = 50
SIX_DIGITS = 5e-7


def embeddings_against_cpu(setup: Setup) -> Iterator[Row]:
    """Embeddings of a briefly trained network against the CPU's; the largest difference counts."""
    config, images = small_run(setup)
    with made_trainer(setup, config, images) as trainer:
        train_steps(trainer, 0, 3)
        model = trainer.unwrapped
        embedding_ND = embed(model, images.images).embedding_SD
        cpu_ND = embed(deepcopy(model).cpu(), images.images).embedding_SD
    worst = ((embedding_ND.cpu() - cpu_ND).norm(dim=1) / cpu_ND.norm(dim=1)).max().item()
    yield within("embeddings against the CPU", worst, 1e-4)


def embed(model: ReIDModel, images: ImageDataset, *, flip: bool = False) -> Embeddings:
    """Embeddings of images as scoring computes them, on the model's device."""
    return embed_dataset(model, images, PredictConfig(batch_size=128, flip=flip))[0]


def ranking_against_cpu(setup: Setup) -> Iterator[Row]:
    """Rank lists and scores on the device against the CPU's.

    Features are small integers, so that every distance is exact in float32 on any device and ties are frequent.
    """
    num_queries, num_gallery = (500, 6000) if setup.large else (60, 700)
    on_cpu = _whole_number_features(num_queries, num_gallery)
    on_device = on_cpu[0].to(setup.device), on_cpu[1].to(setup.device)
    cpu, device = evaluate(*on_cpu), evaluate(*on_device)
    tiled = evaluate(*on_device, Settings(chunk_bytes=1 << 16))
    same = np.array_equal(cpu.ap_Q, device.ap_Q, equal_nan=True) and cpu.cmc == device.cmc
    same &= np.array_equal(device.ap_Q, tiled.ap_Q, equal_nan=True)
    both = f"mAP {device.mean_ap:.6f}, on the CPU {cpu.mean_ap:.6f}"
    yield checked("scores, large and small tiles", same and 0.01 < cpu.mean_ap < 0.99, both)
    (cpu_rows, cpu_distances), (rows, distances) = (
        top_k(query, gallery, NEAREST) for query, gallery in (on_cpu, on_device)
    )
    same = np.array_equal(rows, cpu_rows) and np.array_equal(distances, cpu_distances)
    yield checked(f"top-{NEAREST} rank lists", same, "equal rows and distances" if same else "rows or distances differ")
    scores = [evaluate(*pair, Settings(rerank=KReciprocal())).mean_ap for pair in (on_cpu, on_device)]
    both = f"mAP {scores[1]:.6f}, on the CPU {scores[0]:.6f}"
    yield checked("scores after re-ranking", abs(scores[1] - scores[0]) <= SIX_DIGITS, both)


def _whole_number_features(num_queries: int, num_gallery: int) -> tuple[Embeddings, Embeddings]:
    """Queries and gallery of made people."""
    rng = np.random.default_rng(0)
    query_pids = rng.integers(1, 51, num_queries)
    gallery_pids = rng.integers(0, 51, num_gallery)
    center_PD = rng.integers(-2, 3, (51, 32))

    def made(pids: Ints) -> Embeddings:
        features = (center_PD[pids] + rng.integers(-6, 7, (len(pids), 32))).astype(np.float32)
        return Embeddings.of(features, pids, rng.integers(0, 6, len(pids)))

    return made(query_pids), made(gallery_pids)
