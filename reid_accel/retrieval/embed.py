"""Embedding a set of images over all processes: each keeps the embeddings of its own rows.

A process takes whole blocks of rows, so that retrieval's tiles and the network's batches are cut at the same rows
whatever the number of processes, and an image gets the same bits. Only what is small goes to everybody.
Legend: N images, S this process's rows of them, D feature, A attribute groups, Q some rows.
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from reid_accel.augment.ops import normalize
from reid_accel.data.dataset import ImageDataset, Ints
from reid_accel.data.images import ImageSize, enlarge, to_float
from reid_accel.data.prefetch import place_crops
from reid_accel.distributed.collectives import Group
from reid_accel.hardware import tf32
from reid_accel.models.reid import Architecture, Outputs, ReIDModel, comparable
from reid_accel.retrieval.sharded import shard_rows


@dataclass(frozen=True)
class Predictions:
    """What the model says of N images.

    embedding_SD: float32, as retrieval compares them: rows `rows` of the set, on this process's device.
    attribute_NA: class indices (no columns without attributes). junk_score_N: sum of squared attribute scores;
    low means distractor or junk (course report, 2.1). These two are whole on every process, on the CPU.
    """

    embedding_SD: Tensor
    rows: range
    attribute_NA: Tensor
    junk_score_N: Tensor

    @property
    def first_row(self) -> int:
        """The first of this process's rows."""
        return self.rows.start


class _Batch(NamedTuple):
    embedding_BD: Tensor
    attribute_BA: Tensor
    junk_score_B: Tensor


def predict_sharded(
    model: ReIDModel,
    images: ImageDataset,
    accelerator: Accelerator,
    *,
    batch_size: int,
    flip: bool = False,
    crops: int = 1,
) -> Predictions:
    """Embed a set over all processes; every process calls it and gets its own rows' embeddings.

    The plain float32 model runs, without autocast or TF32, so that scores don't depend on the precision of training.
    flip, crops: features, attribute logits and scores are averaged over several views of each image (before features
    get unit length): with 5 crops the image and its four corners, with flip also each of these mirrored.
    """
    rows = shard_rows(len(images), accelerator.num_processes, accelerator.process_index)
    with tf32(allowed=False):
        own = _predict_rows(model, images, rows, accelerator.device, batch_size, flip, crops)
    group = Group.of()
    row_numbers = torch.arange(rows.start, rows.stop, device=accelerator.device)
    small = [group.all_gather_rows(column) for column in (row_numbers, own.attribute_BA, own.junk_score_B)]
    attribute_NA, junk_score_N = place_by_row(small[0], (small[1], small[2]), len(images))
    return Predictions(own.embedding_BD, rows, attribute_NA, junk_score_N)


def _batches(rows: range, batch_size: int) -> Iterator[range]:
    for start in range(rows.start, rows.stop, batch_size):
        yield range(start, min(start + batch_size, rows.stop))


@torch.no_grad()
def _predict_rows(
    model: ReIDModel, images: ImageDataset, rows: range, device: torch.device, batch_size: int, flip: bool, crops: int
) -> _Batch:
    settings = model.architecture
    was_training = model.training
    model.eval()
    parts = [
        _Batch(
            torch.empty((0, model.feature_size), device=device),
            torch.empty((0, len(settings.groups)), dtype=torch.int64, device=device),
            torch.empty(0, device=device),
        )
    ]
    row_lists = [images.row_N[np.asarray(batch)] for batch in _batches(rows, batch_size)]
    with closing(place_crops(images.crops, device, share=0).batches(row_lists)) as read:
        for crops_B3HW in read:
            views = _views(enlarge(to_float(crops_B3HW), settings), settings, flip, crops)
            parts.append(_predict_batch(model, views))
    model.train(was_training)
    return _Batch(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _views(images_B3HW: Tensor, architecture: Architecture, flip: bool, crops: int) -> Iterator[Tensor]:
    """Float images in 0..1, normalized, as often as the network is to look at them."""
    for rows, columns in _windows(architecture) if crops == 5 else [(slice(None), slice(None))]:
        seen = enlarge(images_B3HW[:, :, rows, columns], architecture)
        view = normalize(seen, architecture.mean, architecture.std)
        yield view
        if flip:
            yield view.flip(-1)


def _windows(size: ImageSize) -> list[tuple[slice, slice]]:
    """Rows and columns of the whole image and of its corners, each 7/8 as high and as wide."""
    height, width = (pixels * 7 // 8 for pixels in (size.height_px, size.width_px))
    edges_y, edges_x = (slice(height), slice(-height, None)), (slice(width), slice(-width, None))
    return [(slice(None), slice(None)), *((rows, columns) for rows in edges_y for columns in edges_x)]


def _predict_batch(model: ReIDModel, views: Iterator[Tensor]) -> _Batch:
    # the class's own forward: accelerate wraps the instance's in autocast
    outputs = _mean_of([ReIDModel.forward(model, view_B3HW) for view_B3HW in views])
    chosen = [logit.argmax(1) for logit in outputs.attribute_logits]
    feature_BD = outputs.feature_BD
    none = torch.empty((len(feature_BD), 0), dtype=torch.int64, device=feature_BD.device)
    return _Batch(
        comparable(feature_BD, model.architecture.metric).float(),
        torch.stack(chosen, 1) if chosen else none,
        outputs.attribute_scores_BM.square().sum(1),
    )


def _mean_of(seen: Sequence[Outputs]) -> Outputs:
    feature, pair_feature, identity_logits, attribute_logits, attribute_scores = zip(*seen, strict=True)
    return Outputs(
        _mean(feature),
        _mean(pair_feature),
        _mean(identity_logits),
        tuple(_mean(logits) for logits in zip(*attribute_logits, strict=True)),
        _mean(attribute_scores),
    )


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    return functools.reduce(torch.add, tensors) / len(tensors)


def place_by_row(rows_N: Tensor, columns: tuple[Tensor, ...], num_images: int) -> tuple[Tensor, ...]:
    """Put results where their row numbers say, on the CPU; proves that every row is there exactly once."""
    times_seen = torch.bincount(rows_N.cpu(), minlength=num_images)
    wrong = (times_seen != 1).nonzero().flatten()
    whole = len(times_seen) == num_images and not len(wrong)
    assert whole, f"{len(wrong)} images were not embedded exactly once, the first is row {wrong[:1].tolist()}"
    order = torch.argsort(rows_N.cpu())
    return tuple(column.cpu()[order] for column in columns)


def embeddings_of(predictions: Predictions, rows_Q: Ints) -> Tensor:
    """The embeddings of some rows, Q x D, on every process; every process calls it with the same rows."""
    own_Q = (rows_Q >= predictions.rows.start) & (rows_Q < predictions.rows.stop)
    shard_SD = predictions.embedding_SD
    found_QD = shard_SD.new_zeros((len(rows_Q), shard_SD.shape[1]))
    places = torch.from_numpy(np.flatnonzero(own_Q)).to(shard_SD.device)
    found_QD[places] = shard_SD[torch.from_numpy(rows_Q[own_Q] - predictions.first_row).to(shard_SD.device)]
    return Group.of().all_reduce(found_QD)  # one process's numbers and zeros: exact


def whole_embedding(predictions: Predictions) -> Tensor | None:
    """All embeddings, N x D, on the CPU of process 0 (None on the others), for writing them down."""
    return Group.of().gather_rows(predictions.embedding_SD.cpu())
