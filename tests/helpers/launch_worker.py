"""What the launch tests run on each process: a few steps of training and an embedding, told to a JSON file."""

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from reid_accel.config.parse import parse
from reid_accel.config.schema import Config, PredictConfig
from reid_accel.data.open import open_data
from reid_accel.data.sampler import rank_share
from reid_accel.data.splits import split_training_images
from reid_accel.distributed.collectives import Group
from reid_accel.distributed.setup import process_group_scope, start_accelerator
from reid_accel.distributed.watchdog import Watchdog
from reid_accel.retrieval.embed import embed_dataset
from reid_accel.training.build import build_model, build_trainer
from reid_accel.training.metrics import EpochSums


def main(watchdog: Watchdog) -> None:
    out, *arguments = sys.argv[1:]
    config = parse(Config, arguments)
    accelerator = start_accelerator(config.run.mixed_precision, config.train.accumulation_steps, watchdog=watchdog)
    data = open_data(config.data, config.model)
    training, _ = split_training_images(data, config.data.validation_share)
    model = build_model(config, training, accelerator)
    trainer = build_trainer(config, accelerator, model, training)
    said = {"world_size": accelerator.num_processes, "rank": accelerator.process_index, "start": digest(model)}

    seen, sums = [], EpochSums.restored({}, accelerator)
    for epoch in range(2):
        rows_SB = trainer.epoch_batches(epoch)[:2]
        seen += rows_SB.tolist()
        batches = trainer.open_batches(rows_SB, epoch)
        for step in range(2):
            sums = trainer.step(batches, 2 * epoch + step, sums)
    images: dict[str, str] = {}
    lists = rank_share(
        trainer.epoch_batches(2)[0],
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        micro_batches=1,
    )
    for rows_B, batch in zip(lists, trainer.input.batches(lists, 2), strict=True):
        images |= {str(row): digest_of([image]) for row, image in zip(rows_B, batch.images_BCHW, strict=True)}
    said["own_statistics"] = digest_of(model.buffers())
    Group.of().broadcast_buffers(model)
    said["statistics"] = digest_of(model.buffers())
    gallery = data.splits["gallery"]
    embeddings, attributes = embed_dataset(model, gallery, PredictConfig(batch_size=5))
    said |= {
        "batches": seen,
        "images": images,
        "parameters": digest(model),
        "sums": sums.over_processes(accelerator),
        "any": Group.of().any(accelerator.process_index == 1, False),
        "rows": [embeddings.rows.start, embeddings.rows.stop],
        "some_embeddings": embeddings.select(np.array([38, 0, 7]), Group.of()).embedding_SD.tolist(),
        "junk_scores": attributes.junk_score_N.tolist(),
    }
    # the control: a step that goes around the wrapped model leaves the processes apart
    rows = trainer.epoch_batches(5)[0]
    share = rows[accelerator.process_index :: accelerator.num_processes]
    images = torch.from_numpy(gallery.crops.crops_N3HW[share % len(gallery)]).float() / 255
    type(model).forward(model, images).feature_BD.square().mean().backward()
    trainer.optimizer.step()
    said["parameters_without_synchronizing"] = digest(model)
    Path(f"{out}.{accelerator.process_index}").write_text(json.dumps(said), encoding="utf-8")


def digest(model: torch.nn.Module) -> str:
    """A hash of all parameters."""
    return digest_of(model.parameters())


def digest_of(tensors: Iterable[torch.Tensor]) -> str:
    """A hash of some tensors' values."""
    parts = [value.detach().contiguous().numpy().tobytes() for value in tensors]
    return hashlib.sha256(b"".join(parts)).hexdigest()


if __name__ == "__main__":
    with process_group_scope() as watchdog:
        main(watchdog)
