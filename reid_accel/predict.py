"""Attributes of each test image and ranked test images of each query, for folders without labels.

accelerate launch reid_accel/predict.py --model RUN/model --queries FOLDER --test FOLDER
"""

import sys

from reid_accel.preflight import prediction_settings

if __name__ == "__main__":
    SETTINGS = prediction_settings(sys.argv[1:])  # before torch is imported: help and mistakes are answered at once

from collections.abc import Sequence
from pathlib import Path

from reid_accel.config.schema import PredictionConfig
from reid_accel.course.predictions import write_predictions
from reid_accel.data.crop_cache import Decoding
from reid_accel.data.dataset import open_unlabeled_folder
from reid_accel.distributed.setup import process_group_scope, start_accelerator
from reid_accel.models.reid import load_model, on_device
from reid_accel.reporting.console import open_console, sentences_for_users
from reid_accel.retrieval.embed import embed_dataset


def main(arguments: Sequence[str]) -> None:
    """The script: a model and two folders in, two files out; a user's mistake becomes a sentence."""
    run_script(prediction_settings(arguments))


def run_script(config: PredictionConfig) -> None:
    """Predict with the settings; a user's mistake becomes a sentence, and all processes end together."""
    with process_group_scope(), sentences_for_users():
        predict(config)


def predict(config: PredictionConfig) -> None:
    """Embed both folders on all processes; rank and write on process 0."""
    accelerator = start_accelerator("no")
    console = open_console(accelerator.is_main_process)
    with accelerator.local_main_process_first():  # one download per machine
        model = load_model(config.model, config.model_module)
    model = on_device(model, accelerator.device)
    decoding = Decoding(
        model.architecture,
        Path(config.cache_dir).expanduser(),
        config.on_bad_image,
        verify=accelerator.is_local_main_process,
        say=console.print,
    )
    predicted = []
    for folder in (config.queries, config.test):
        with accelerator.local_main_process_first():
            images, skipped = open_unlabeled_folder(Path(folder), decoding)
        for bad in skipped:
            console.print(f"left out: {bad.reason}", markup=False)
        console.print(f"embedding {len(images):,} images of {folder}", markup=False)
        predicted.append(embed_dataset(model, images, config.score))
    (queries, _), (test, attributes) = predicted
    written = write_predictions(Path(config.dir), queries, test, attributes, model.architecture, config.score)
    for path in written:
        console.print(f"wrote {path}", markup=False)


if __name__ == "__main__":
    run_script(SETTINGS)
