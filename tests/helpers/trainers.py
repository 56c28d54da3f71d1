"""A trainer of a tiny network on the CPU."""

from pathlib import Path

from helpers.launching import TINY
from reid_accel.config.parse import parse
from reid_accel.config.schema import Config
from reid_accel.data.open import open_data
from reid_accel.data.splits import split_training_images
from reid_accel.distributed.setup import start_accelerator
from reid_accel.training.build import build_model, build_trainer
from reid_accel.training.trainer import Trainer


def trainer(root: Path, *more: str) -> Trainer:
    """A trainer whose batch norm is frozen, so that a batch in parts is the batch in one."""
    data = ["--data.name=market-layout", f"--data.root={root}", f"--data.cache-dir={root / 'cache'}"]
    settings = ["--data.validation-share=0", "--train.batch-size=8", "--optim.name=sgd", "--optim.warmup-epochs=0"]
    config = parse(Config, [*TINY, *data, *settings, *more])
    accelerator = start_accelerator("no", config.train.accumulation_steps, asked_threads=1)
    opened = open_data(config.data, config.model)
    training, _ = split_training_images(opened, config.data.validation_share)
    model = build_model(config, training, accelerator)
    built = build_trainer(config, accelerator, model, training)
    built.model.eval()
    return built
