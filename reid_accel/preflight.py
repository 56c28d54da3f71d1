"""Settings of the scripts, with all checks that need neither torch nor network, so that errors appear within a second.

Nothing imported here may import torch.
"""

from collections.abc import Sequence
from pathlib import Path

from reid_accel.config.parse import parse
from reid_accel.config.recipes import DEFAULT_RECIPE
from reid_accel.config.schema import Config, DataConfig, PredictionConfig, ScoringConfig, added_set
from reid_accel.config.scoring import is_exported
from reid_accel.data.checks import check_listing, check_names
from reid_accel.data.listing import find_images
from reid_accel.data.reading import check_dataset, read_dataset
from reid_accel.data.video_crops import list_video_crops
from reid_accel.errors import InputError
from reid_accel.models.model_folder import check_model_name
from reid_accel.reporting.console import sentences_for_users
from reid_accel.training.run_paths import check_run_folder, holds_a_run, resumed_after_restart
from reid_accel.weights.packages import check_weights_file


def training_settings(arguments: Sequence[str]) -> Config:
    """The settings of train.py; a mistake is printed, with exit code 2."""
    with sentences_for_users():
        config = parse(Config, arguments, default_recipe=DEFAULT_RECIPE)
        check_training(config)
    return config


def scoring_settings(arguments: Sequence[str]) -> ScoringConfig:
    """The settings of score.py; a mistake is printed, with exit code 2."""
    with sentences_for_users():
        config = parse(ScoringConfig, arguments)
        check_scoring(config)
    return config


def prediction_settings(arguments: Sequence[str]) -> PredictionConfig:
    """The settings of predict.py; a mistake is printed, with exit code 2."""
    with sentences_for_users():
        config = parse(PredictionConfig, arguments)
        check_prediction(config)
    return config


def check_training(config: Config) -> None:
    """Raise InputError when a path doesn't exist, a run folder is taken, or a push would be refused.

    Data sets are listed here, by their file names, so that a wrong folder is found before weights are downloaded.
    """
    _check_data(config.data)
    weights = config.model.weights_file
    if weights is not None:
        check_weights_file(weights)
    check_run_folder(resumed_after_restart(config.run))
    if config.run.push_to is not None:
        from reid_accel.hub import check_repo_id, check_token  # imported late, since it imports timm

        check_repo_id(config.run.push_to)
        check_token()


def check_scoring(config: ScoringConfig) -> None:
    """Raise InputError when model, features or data sets can't be what is meant, or the report folder is taken."""
    if config.model is not None:
        _check_model(config.model, config.preprocess)
        _check_data(config.data)
        for entry in config.also:
            check_listing(read_dataset(added_set(entry, "also", config.data)))  # before other sets are scored
    elif not Path(str(config.features)).is_dir():
        raise InputError(f"there is no features folder {config.features}; `--model MODEL --features FOLDER` writes one")
    _check_results_folder(config.dir)


def check_prediction(config: PredictionConfig) -> None:
    """Raise InputError when the model or the images don't exist."""
    _check_model(config.model, config.preprocess)
    for images in (config.queries, config.test):
        if images is not None:
            check_names((path.name for path in find_images(Path(images))), images)
    if config.video_crops is not None:
        list_video_crops(Path(config.video_crops))
    _check_results_folder(config.dir)


def _check_model(name: str, preprocess: str | None) -> None:
    if not is_exported(name):
        check_model_name(name)
        if preprocess is not None:
            raise InputError(f"--preprocess is for exported files of other programs, but {name} is a saved model")
    elif not Path(name).is_file():
        raise InputError(f"there is no file {name}: `reid-accel export MODEL --to onnx` writes one")


def _check_results_folder(folder: str | None) -> None:
    if folder is not None and holds_a_run(Path(folder)):
        raise InputError(f"{folder} already holds results: choose another --dir")


def _check_data(config: DataConfig) -> None:
    if not config.name.startswith("synthetic"):
        check_dataset(config)
    for entry in config.also:
        check_dataset(added_set(entry, "data.also", config))
