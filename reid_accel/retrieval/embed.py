"""Embedding a set of images over all processes; each keeps the embeddings of its own rows.

A process takes full blocks of rows, so that retrieval tiles and network batches have the same boundaries for any number
of processes, and embeddings are bit-identical. Only attributes are gathered on all processes.
Legend: N images, B images of a batch or of this process, D feature, A attribute groups.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid_accel.augment.ops import normalize
from reid_accel.config.schema import PredictConfig
from reid_accel.data.dataset import ImageDataset, Ints
from reid_accel.data.images import ImageSize, enlarge, to_float
from reid_accel.data.prefetch import place_crops
from reid_accel.distributed.collectives import Group
from reid_accel.hardware import tf32
from reid_accel.models.reid import ReIDModel, comparable
from reid_accel.retrieval.distances import shard_rows
from reid_accel.retrieval.exported import Embedder, ExportedModel
from reid_accel.retrieval.features import Embeddings


@dataclass(frozen=True)
class AttributePredictions:
    """Attributes of N images, on the CPU, complete on every process."""

    value_NA: Ints
    """Indices of the predicted values; no columns if there are no attributes."""
    junk_score_N: Tensor
    """Sum of squared attribute scores; low means distractor or junk (course report, 2.1)."""
    score_NM: Tensor | None = None
    """Scores of all groups' values, if they were asked for."""


class _Batch(NamedTuple):
    embedding_BD: Tensor
    attribute_BA: Tensor
    junk_score_B: Tensor
    score_BM: Tensor
    quality_B: Tensor


def embed_dataset(
    model: Embedder,
    images: ImageDataset,
    config: PredictConfig,
    progress: Callable[[int], None] | None = None,
    *,
    keep_scores: bool = False,
) -> tuple[Embeddings, AttributePredictions]:
    """Embed a set over all processes; every process calls it and gets its own rows' embeddings.

    The model runs in float32 without autocast or TF32, so that scores don't depend on the precision of training.
    Features, attribute logits and scores are averaged over the views of each image that `config` selects (before
    features are normalized): with 5 crops, the image and its four corners; with flip, also their mirror images. A model
    with a camera embedding is given the images' cameras.
    progress: called after each batch with its number of images. keep_scores: also return the attribute scores.
    Images with tracklets also get their quality: the norm of what metric losses compare, which the neck `bn` takes
    before batch norm; exported files don't return it.
    """
    group = Group.of()
    rows = shard_rows(len(images), group.size, group.rank)
    with tf32(allowed=False):
        own = _predict_rows(model, images, rows, config, progress)
    row_N = group.all_gather_rows(torch.arange(rows.start, rows.stop))

    def everywhere(column_B: Tensor) -> Tensor:
        return place_by_row(row_N, (group.all_gather_rows(column_B),), len(images))[0]

    embeddings = Embeddings(
        own.embedding_BD, rows, images.pid_N, images.camera_N, images.name_N, tracklet_N=images.tracklet_N
    )
    if embeddings.has_tracklets and isinstance(model, ReIDModel):
        embeddings = replace(embeddings, quality_N=everywhere(own.quality_B).numpy())
    predicted = AttributePredictions(everywhere(own.attribute_BA).numpy(), everywhere(own.junk_score_B))
    return embeddings, replace(predicted, score_NM=everywhere(own.score_BM)) if keep_scores else predicted


def _batches(rows: range, batch_size: int) -> Iterator[range]:
    for start in range(rows.start, rows.stop, batch_size):
        yield range(start, min(start + batch_size, rows.stop))


@torch.no_grad()
def _predict_rows(
    model: Embedder, images: ImageDataset, rows: range, config: PredictConfig, progress: Callable[[int], None] | None
) -> _Batch:
    settings = model.architecture
    batches = [np.asarray(batch) for batch in _batches(rows, config.batch_size)]
    row_lists = [images.row_N[batch_B] for batch_B in batches]
    with (
        _evaluating(model) as device,
        closing(place_crops(images.crops, device, share=0).batches(row_lists)) as read,
    ):
        parts = [
            _Batch(
                torch.empty((0, model.feature_size), device=device),
                torch.empty((0, len(settings.groups)), dtype=torch.int64, device=device),
                torch.empty(0, device=device),
                torch.empty((0, settings.num_attribute_values), device=device),
                torch.empty(0, device=device),
            )
        ]
        for batch_B, crops_B3HW in zip(batches, read, strict=True):
            pixels_B3HW = enlarge(to_float(crops_B3HW), settings)
            if isinstance(model, ReIDModel):
                finish = partial(normalize, mean=settings.mean, std=settings.std)
                camera_B = torch.from_numpy(images.camera_N[batch_B]).to(device)
                parts.append(_predict_batch(model, _views(pixels_B3HW, settings, config, finish), camera_B))
            else:  # the graph or its runtime normalizes
                parts.append(_run_batch(model, _views(pixels_B3HW, settings, config, lambda view: view)))
            if progress is not None:
                progress(len(crops_B3HW))
    return _Batch(*(torch.cat(column) for column in zip(*parts, strict=True)))


@contextmanager
def _evaluating(model: Embedder) -> Iterator[torch.device]:
    """Evaluation mode within the block; yields the device that images are placed on."""
    if not isinstance(model, ReIDModel):
        yield torch.device("cpu")
        return
    was_training = model.training
    model.eval()
    yield next(model.parameters()).device
    model.train(was_training)


def _views(
    images_B3HW: Tensor, size: ImageSize, config: PredictConfig, finish: Callable[[Tensor], Tensor]
) -> Iterator[Tensor]:
    """The views of float images in 0..1, finished for the network."""
    for rows, columns in _windows(size) if config.crops == 5 else [(slice(None), slice(None))]:
        view = finish(enlarge(images_B3HW[:, :, rows, columns], size))
        yield view
        if config.flip:
            yield view.flip(-1)


def _windows(size: ImageSize) -> list[tuple[slice, slice]]:
    """Rows and columns of the full image and of its corner crops, each 7/8 as high and as wide."""
    height, width = (pixels * 7 // 8 for pixels in (size.height_px, size.width_px))
    edges_y, edges_x = (slice(height), slice(-height, None)), (slice(width), slice(-width, None))
    return [(slice(None), slice(None)), *((rows, columns) for rows in edges_y for columns in edges_x)]


def _predict_batch(model: ReIDModel, views: Iterator[Tensor], camera_B: Tensor) -> _Batch:
    # the class's own forward: accelerate wraps the instance's in autocast
    dtype = next(model.parameters()).dtype
    seen = [ReIDModel.forward(model, view_B3HW.to(dtype), camera_B) for view_B3HW in views]
    feature_BD = _mean([outputs.feature_BD for outputs in seen])
    embedding_BD = comparable(feature_BD, model.architecture.metric).float()
    quality_B = _mean([outputs.metric_feature_BE.float().norm(dim=1) for outputs in seen])
    logits = [outputs.attribute_logits for outputs in seen]
    if not model.architecture.groups:
        none_B0 = feature_BD.new_empty((len(feature_BD), 0))
        return _Batch(embedding_BD, none_B0.long(), feature_BD.new_zeros(len(feature_BD)), none_B0.float(), quality_B)
    chosen = [_mean(group).argmax(1) for group in zip(*logits, strict=True)]
    scores_BM = _mean([model.attribute_scores(view_logits) for view_logits in logits])
    return _Batch(embedding_BD, torch.stack(chosen, 1), scores_BM.square().sum(1), scores_BM, quality_B)


def _run_batch(model: ExportedModel, views: Iterator[Tensor]) -> _Batch:
    """What an exported file returns, averaged over views; it has no quality, and attributes only on request."""
    feature_BD, *probabilities = (_mean(outputs) for outputs in zip(*map(model.outputs, views), strict=True))
    nothing_B = feature_BD.new_zeros(len(feature_BD))
    value_BA = torch.stack([group_BV.argmax(1) for group_BV in probabilities], 1) if probabilities else None
    score_BM = torch.cat([nothing_B[:, None][:, :0], *probabilities], dim=1)
    return _Batch(
        comparable(feature_BD, model.architecture.metric),
        nothing_B[:, None][:, :0].long() if value_BA is None else value_BA,
        score_BM.square().sum(1),
        score_BM,
        nothing_B,
    )


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, tensors) / len(tensors)


def place_by_row(rows_N: Tensor, columns: tuple[Tensor, ...], num_images: int) -> tuple[Tensor, ...]:
    """Results in the order of their row numbers, on the CPU; asserts that every row occurs exactly once."""
    times_seen = torch.bincount(rows_N.cpu(), minlength=num_images)
    wrong = (times_seen != 1).nonzero().flatten()
    complete = len(times_seen) == num_images and not len(wrong)
    assert complete, f"{len(wrong)} images were not embedded exactly once, the first is row {wrong[:1].tolist()}"
    order = torch.argsort(rows_N.cpu())
    return tuple(column.cpu()[order] for column in columns)
