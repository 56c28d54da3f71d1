"""A run whose images are opened and augmented one by one by Pillow and torchvision: the control for accuracy.

By hand, for comparing with the same command on reid_accel/train.py:
accelerate launch tests/per_image_training.py [--config configs/NAME.yaml] [--section.setting value ...]
"""

import sys
from dataclasses import replace

from reid_accel.benchmarks.per_image import per_image_input
from reid_accel.config.parse import parse
from reid_accel.config.recipes import DEFAULT_RECIPE
from reid_accel.config.schema import Config
from reid_accel.distributed.setup import process_group_scope
from reid_accel.distributed.watchdog import Watchdog
from reid_accel.train import complete, prepare


def main(watchdog: Watchdog) -> None:
    """The script: a whole run, with nothing but its input replaced."""
    config = parse(Config, sys.argv[1:], default_recipe=DEFAULT_RECIPE)
    run, progress = prepare(config, watchdog)
    source = per_image_input(run.trainer.data, config, run.accelerator.device)
    complete(replace(run, trainer=replace(run.trainer, input=source)), progress)


if __name__ == "__main__":
    with process_group_scope() as watchdog:
        main(watchdog)
