"""Settings that fit a data set, each with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from reid_accel.data.dataset import ImageDataset
from reid_accel.doctor.facts import images_per_person
from reid_accel.doctor.findings import TRAIN, Splits, number_of
from reid_accel.doctor.looks import Usual
from reid_accel.doctor.pictures import Pictures

USUAL_BATCH, USUAL_K = 64, 4
FEW_IMAGES = 3000
SQUARE, SLENDER = 1.4, 2.8
SMALL_HEIGHT = 128


@dataclass(frozen=True)
class Advice:
    """Flags of train, and why they fit."""

    flags: str
    reason: str


def advice_on(splits: Splits, pictures: Mapping[str, Pictures], *, on_gpu: bool | None = None) -> list[Advice]:
    """Recipe, input size and batch shape that fit the set. on_gpu: whether a GPU trains; by default as on this
    machine."""
    on_gpu = torch.cuda.is_available() if on_gpu is None else on_gpu
    found = [_recipe(splits, on_gpu)]
    if any(each.usable_N.any() for each in pictures.values()):
        found.append(_input_size(Usual.of(pictures), on_gpu))
    return [*found, *_batch(splits[TRAIN])]


def _recipe(splits: Splits, on_gpu: bool) -> Advice:
    train = splits[TRAIN]
    images = number_of(len(train), "training image")
    attributes = f"{len(train.groups)} attributes are annotated" if train.groups else "no attributes are annotated"
    if "queries" in splits:
        return Advice("--config course", "the set has the course's folders; its recipe writes the files to hand in")
    if not on_gpu:
        heads = "" if train.groups else " --model.no-attributes"
        return Advice(
            f"--config scratch{heads}",
            f"this machine has no GPU: a small network from scratch trains on {images} in minutes to hours",
        )
    recipe = "joint" if train.groups else "bot"
    few = "; so few images need pretrained re-ID weights: reid-accel import-weights" if len(train) < FEW_IMAGES else ""
    return Advice(f"--config {recipe}", f"{images}, {attributes}{few}")


def _input_size(usual: Usual, on_gpu: bool) -> Advice:
    seen = f"crops are usually {usual.width:.0f} x {usual.height:.0f}, {usual.ratio:.1f} times as high as wide"
    if usual.ratio < SQUARE:
        height, width = (224, 224) if on_gpu else (128, 128)
    elif usual.ratio > SLENDER:
        height, width = (384, 128) if on_gpu else (192, 64)
    else:
        height, width = (256, 128) if on_gpu else (128, 64)
    if on_gpu and usual.height <= SMALL_HEIGHT:
        seen += "; papers enlarge such crops, too"
    elif usual.height <= SMALL_HEIGHT:
        seen += "; enlarging them would take four times as long"
    return Advice(f"--model.height-px {height} --model.width-px {width}", seen)


def _batch(train: ImageDataset) -> list[Advice]:
    """P people with K images each, for losses on pairs."""
    of_person = images_per_person(train)
    if len(of_person) < 2 or np.median(of_person) < 2:
        return []
    median = float(np.median(of_person))
    k = USUAL_K if median >= USUAL_K else 2
    p = min(USUAL_BATCH // k, len(of_person))
    fewer = int((of_person < k).sum())
    reason = f"a person usually has {median:g} images, so a batch of {p} people with {k} images each fills with them"
    if fewer:
        reason += (
            f"; {number_of(fewer, 'person has', 'people have')} fewer and repeat{'s' if fewer == 1 else ''} images"
        )
    return [Advice(f"--train.batch-size {p * k} --train.images-per-identity {k}", reason)]
