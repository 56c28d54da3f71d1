"""Real images: the recipe `scratch.yaml` for a few minutes, from JPEG files to mAP."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
import yaml

from reid_accel.benchmarks.counting import synchronize
from reid_accel.benchmarks.gpu.made_run import made_trainer, run_steps, train_steps
from reid_accel.benchmarks.gpu.ranking import embed
from reid_accel.benchmarks.gpu.rows import REAL, LeftOutError, Row
from reid_accel.benchmarks.gpu.setup import Setup, require_bf16
from reid_accel.config.recipes import recipes
from reid_accel.config.schema import Config
from reid_accel.data.listing import ImageFile
from reid_accel.data.open import open_data
from reid_accel.data.sets import list_dataset
from reid_accel.data.splits import OpenedData, TrainingSet, split_training_images
from reid_accel.retrieval.api import evaluate
from reid_accel.training.trainer import Trainer

RECIPE = recipes()["scratch"]
TRAINING_SECONDS = 180.0
SCORING_SECONDS = 30.0
PILOT_STEPS = 30
PEOPLE_ON_CPU = 12


def recipe_run(setup: Setup) -> Iterator[Row]:
    """Decode, train within the budget, score: mAP, rank-1, images per second."""
    if setup.data is None:
        raise LeftOutError("no --data FOLDER was given")
    require_bf16(setup.device)
    config = _config(setup)
    begun = time.perf_counter()
    data = _open(setup, setup.data, config)
    decoded = time.perf_counter() - begun
    training, _ = split_training_images(data, config.data.validation_share)
    epochs = _affordable_epochs(setup, config, training)
    # the recipe's weight decay is tuned for its number of steps; longer runs need proportionally less
    decay = config.optim.weight_decay * min(1.0, config.train.epochs / epochs)
    config = replace(
        config, train=replace(config.train, epochs=epochs), optim=replace(config.optim, weight_decay=decay)
    )
    with made_trainer(setup, config, training) as trainer:
        begun = time.perf_counter()
        steps = epochs * trainer.steps_per_epoch
        train_steps(trainer, 0, steps)
        synchronize(setup.device)
        seconds = time.perf_counter() - begun
        mean_ap, rank_1 = _score(trainer, data)
    speed = steps * config.train.batch_size / seconds
    yield Row(
        REAL,
        f"{RECIPE.name}, {training.num_identities} people, {epochs} epochs",
        "measured",
        f"mAP {100 * mean_ap:.1f} %, rank-1 {100 * rank_1:.1f} %; {speed:,.0f} images/s over {seconds:.0f} s, "
        f"{decoded:.1f} s to decode",
        {"mean_ap": mean_ap, "rank_1": rank_1, "images_per_second": speed, "seconds": seconds},
    )


def _config(setup: Setup) -> Config:
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    sections = {field.name: field.default_factory for field in fields(Config)}
    config = Config(**{name: sections[name](**values) for name, values in recipe.items()})  # type: ignore[operator]
    run = replace(config.run, mixed_precision="bf16" if setup.large else "no", cpu_threads=torch.get_num_threads())
    return replace(config, run=run)


def _open(setup: Setup, root: Path, config: Config) -> OpenedData:
    """Training, query and gallery images, decoded; on the CPU those of a few people."""
    data = replace(config.data, root=str(root), cache_dir=str(setup.folder / "cache"))
    listing = list_dataset(data, cache_dir=setup.folder / "cache")
    if not setup.large:
        few = {split: _of_few_people(images) for split, images in listing.splits.items()}
        listing = replace(listing, splits=few)
    return open_data(data, config.model, listing=listing)


def _of_few_people(images: tuple[ImageFile, ...]) -> tuple[ImageFile, ...]:
    few = sorted({image.pid for image in images if image.pid > 0})[:PEOPLE_ON_CPU]
    return tuple(image for image in images if image.pid in few)


def _affordable_epochs(setup: Setup, config: Config, training: TrainingSet) -> int:
    """The number of epochs that fit into the budget, from a short trial."""
    if not setup.large:
        return 1
    with made_trainer(setup, config, training) as trainer:
        rows_SB = np.concatenate([trainer.epoch_batches(0)] * 2)[:PILOT_STEPS]
        with closing(trainer.open_batches(rows_SB, 0)) as batches:
            run_steps(trainer, batches, PILOT_STEPS // 3)
            synchronize(setup.device)
            begun = time.perf_counter()
            run_steps(trainer, batches, len(rows_SB) - PILOT_STEPS // 3)
            synchronize(setup.device)
        seconds = (time.perf_counter() - begun) / (len(rows_SB) - PILOT_STEPS // 3) * trainer.steps_per_epoch
    allowed = min(TRAINING_SECONDS, setup.seconds_left - SCORING_SECONDS)
    return max(1, int(allowed / seconds))


def _score(trainer: Trainer, data: OpenedData) -> tuple[float, float]:
    query, gallery = (
        embed(trainer.unwrapped, data.splits[split], flip=trainer.config.score.flip) for split in ("query", "gallery")
    )
    scores = evaluate(query, gallery)
    return scores.mean_ap, scores.cmc[1]
