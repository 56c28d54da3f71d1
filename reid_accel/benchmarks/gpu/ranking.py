"""Right: whether embeddings, rank lists and scores computed on a device are the CPU's.

Legend: Q queries, G gallery, D feature, K nearest rows.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from reid_accel.benchmarks.gpu.correctness import small_run
from reid_accel.benchmarks.gpu.made_run import made_trainer, train_steps
from reid_accel.benchmarks.gpu.rows import Row, checked, within
from reid_accel.benchmarks.gpu.setup import Setup
from reid_accel.data.dataset import ImageDataset
from reid_accel.models.reid import ReIDModel
from reid_accel.retrieval.api import evaluate, top_k
from reid_accel.retrieval.embed import predict_sharded
from reid_accel.retrieval.rerank import KReciprocal

NEAREST = 50
SIX_DIGITS = 5e-7


def embeddings_against_cpu(setup: Setup) -> Iterator[Row]:
    """Embeddings of a slightly trained network against the CPU's; the worst image counts."""
    config, images = small_run(setup)
    with made_trainer(setup, config, images) as trainer:
        train_steps(trainer, 0, 3)
        model = trainer.unwrapped
        embedding_ND = embed(model, images.images, trainer.accelerator)
        cpu_ND = _embed_on_cpu(deepcopy(model).cpu(), images.images, embedding_ND.shape[1])
    worst = ((embedding_ND.cpu() - cpu_ND).norm(dim=1) / cpu_ND.norm(dim=1)).max().item()
    yield within("embeddings against the CPU", worst, 1e-4)


def embed(model: ReIDModel, images: ImageDataset, accelerator: Accelerator, *, flip: bool = False) -> Tensor:
    """Embeddings of images as scoring computes them, N x D, on the device."""
    return predict_sharded(model, images, accelerator, batch_size=128, flip=flip).embedding_SD


class _OnCpu:
    """Stands in for an Accelerator: the first process of one, on the CPU."""

    device, num_processes, process_index = torch.device("cpu"), 1, 0


def _embed_on_cpu(model: ReIDModel, images: ImageDataset, dimension: int) -> Tensor:
    alone: Any = _OnCpu()
    embedding_ND = embed(model, images, alone)
    assert embedding_ND.shape == (len(images), dimension)
    return embedding_ND


def ranking_against_cpu(setup: Setup) -> Iterator[Row]:
    """Rank lists and scores on the device against the CPU's.

    Features are small whole numbers, so that every distance is exact in float32 on any device and ties are many.
    """
    num_queries, num_gallery = (500, 6000) if setup.large else (60, 700)
    features, labels = _whole_number_features(num_queries, num_gallery)
    on_device = [feature.to(setup.device) for feature in features]
    cpu, device = evaluate(*features, *labels), evaluate(*on_device, *labels)
    tiled = evaluate(*on_device, *labels, chunk_bytes=1 << 16)
    same = np.array_equal(cpu.ap_Q, device.ap_Q, equal_nan=True) and cpu.cmc == device.cmc
    same &= np.array_equal(device.ap_Q, tiled.ap_Q, equal_nan=True)
    both = f"mAP {device.mean_ap:.6f}, on the CPU {cpu.mean_ap:.6f}"
    yield checked("scores, large and small tiles", same and 0.01 < cpu.mean_ap < 0.99, both)
    (cpu_rows, cpu_distances), (rows, distances) = (
        top_k(query, gallery, NEAREST) for query, gallery in (features, on_device)
    )
    same = np.array_equal(rows, cpu_rows) and np.array_equal(distances, cpu_distances)
    yield checked(f"top-{NEAREST} rank lists", same, "equal rows and distances" if same else "rows or distances differ")
    scores = [evaluate(*pair, *labels, rerank=KReciprocal()).mean_ap for pair in (features, on_device)]
    both = f"mAP {scores[1]:.6f}, on the CPU {scores[0]:.6f}"
    yield checked("scores after re-ranking", abs(scores[1] - scores[0]) <= SIX_DIGITS, both)


def _whole_number_features(num_queries: int, num_gallery: int) -> tuple[list[Tensor], list[Any]]:
    """(query and gallery features, labels for `evaluate`) of made people."""
    rng = np.random.default_rng(0)
    query_pids = rng.integers(1, 51, num_queries)
    gallery_pids = rng.integers(0, 51, num_gallery)
    center_PD = rng.integers(-2, 3, (51, 32))
    features = [
        torch.from_numpy((center_PD[pids] + rng.integers(-6, 7, (len(pids), 32))).astype(np.float32))
        for pids in (query_pids, gallery_pids)
    ]
    cameras = [rng.integers(0, 6, size) for size in (num_queries, num_gallery)]
    return features, [query_pids, gallery_pids, *cameras]
