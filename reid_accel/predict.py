"""Predict attributes and rank lists for folders of unlabeled images.

reid-accel predict --model RUN/model --queries FOLDER_OR_IMAGE --test FOLDER_OR_IMAGE
"""

import sys

from reid_accel.preflight import prediction_settings

if __name__ == "__main__":
    SETTINGS = prediction_settings(sys.argv[1:])  # before torch is imported, so that help and errors are immediate

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.config.schema import PredictionConfig, RunConfig
from reid_accel.course.predictions import CLASSIFICATION_FILE, JUNK_SCORES_FILE, write_predictions
from reid_accel.data.cache_dir import cache_folder
from reid_accel.data.crop_cache import Decoding
from reid_accel.data.dataset import ImageDataset, SkippedImage, decode_images, open_unlabeled
from reid_accel.data.listing import fingerprint_of
from reid_accel.data.video_crops import list_video_crops
from reid_accel.distributed.collectives import Group
from reid_accel.distributed.machine import is_local_main, local_main_first
from reid_accel.distributed.setup import process_group_scope, start_accelerator
from reid_accel.distributed.watchdog import Watchdog
from reid_accel.evaluation.video import PredictedTracklets, predict_tracklets, write_tracklet_ranks, write_tracklets
from reid_accel.models.reid import ReIDModel, on_device
from reid_accel.reporting.console import image_bar, open_console, sentences_for_users
from reid_accel.retrieval.embed import AttributePredictions, embed_dataset
from reid_accel.retrieval.exported import Embedder, fingerprint_of_model, load_embedder
from reid_accel.retrieval.feature_files import save_features
from reid_accel.retrieval.features import Embeddings
from reid_accel.training.run_dir import choose_run_folder

logger = logging.getLogger("reid_accel.predict")  # the script's __name__ may be __main__


def main(arguments: Sequence[str]) -> None:
    """The script: from a model and two folders to prediction files; a user's mistake is reported as one sentence."""
    run_script(prediction_settings(arguments))


def run_script(config: PredictionConfig) -> None:
    """Predict with the settings; a user's mistake is reported as one sentence, and all processes end together."""
    with process_group_scope() as watchdog, sentences_for_users(), ExitStack() as held:
        predict(config, watchdog, held)


def predict(config: PredictionConfig, watchdog: Watchdog, held: ExitStack) -> None:
    """Check and decode all images, embed them on all processes, rank and write on process 0."""
    accelerator = start_accelerator("no", watchdog=watchdog)
    console = open_console(accelerator.is_main_process, config.log_level)
    with accelerator.local_main_process_first():  # one download per machine
        model = load_embedder(config.model, config.model_module, config.preprocess)
    if isinstance(model, ReIDModel):
        model = on_device(model, accelerator.device)
    places = {name: getattr(config, name) for name in ("queries", "test")}
    sets = {name: open_images(Path(place), model, config) for name, place in places.items() if place is not None}
    video = open_tracklets(Path(config.video_crops), model, config) if config.video_crops is not None else None
    folder = choose_run_folder(RunConfig(name="predict", dir=config.dir), accelerator, held)
    if video is None:
        warn_of_missing_files(model)
    embedded = {}
    for name, images in sets.items():
        with image_bar(console, f"embedding {name}", -(-len(images) // accelerator.num_processes)) as progress:
            embedded[name] = embed_dataset(model, images, config.score, progress)
    if video is None:
        written = predict_images(folder, embedded, model, config)
    else:
        ids, crops = video
        with image_bar(console, "embedding tracklets", -(-len(crops) // accelerator.num_processes)) as progress:
            tracklets = predict_tracklets(model, crops, ids, config.score, config.pooling, progress)
        queries = embedded["queries"][0] if "queries" in embedded else None
        written = predict_video(folder, queries, tracklets, model, config)
    for path in written:
        logger.info(f"wrote {path}")


def predict_images(
    folder: Path,
    embedded: Mapping[str, tuple[Embeddings, AttributePredictions]],
    model: Embedder,
    config: PredictionConfig,
) -> list[Path]:
    """Write the files for query and test images; returns their paths. Every process calls it."""
    queries, (test, attributes) = embedded["queries"][0], embedded["test"]
    logger.info("ranking all test images for each query: no camera rule, since the images have no labels")
    written = write_predictions(
        folder, queries, test, attributes, model.architecture, config.score, config.save_features
    )
    if config.save_features:
        written.append(folder / "features")
        keep_features(written[-1], {"queries": queries, "test": test}, model)
    return written


def predict_video(
    folder: Path, queries: Embeddings | None, tracklets: PredictedTracklets, model: Embedder, config: PredictionConfig
) -> list[Path]:
    """Write the files for a video's tracklets; returns their paths. Every process calls it."""
    written = [write_tracklets(folder, tracklets)] if Group.of().is_main else []
    sets = {"tracklets": tracklets.embeddings}
    if queries is not None:
        sets["queries"] = queries
        length, metric = config.score.rank_list_length, model.architecture.metric
        written.append(write_tracklet_ranks(folder, queries, tracklets.embeddings, metric, length))
    if config.save_features:
        written.append(folder / "features")
        keep_features(written[-1], sets, model)
    return written


def open_images(place: Path, model: Embedder, config: PredictionConfig) -> ImageDataset:
    """Decode an image or a folder of images, once per machine; every process calls it."""
    with local_main_first():
        images, skipped = open_unlabeled(place, decoding_of(model, config))
    warn_of_skipped(skipped)
    return images


def open_tracklets(place: Path, model: Embedder, config: PredictionConfig) -> tuple[list[str], ImageDataset]:
    """The IDs and the decoded crops of a video's tracklets; every process calls it."""
    ids, files = list_video_crops(place)
    with local_main_first():
        images, skipped = decode_images(
            files, (), decoding_of(model, config), fingerprint=fingerprint_of(place, {"": files}), title=str(place)
        )
    warn_of_skipped(skipped)
    return ids, images


def decoding_of(model: Embedder, config: PredictionConfig) -> Decoding:
    """How images are decoded for a model."""
    cache_dir = cache_folder(config.cache_dir)
    return Decoding(model.architecture, cache_dir, config.on_bad_image, verify=is_local_main())


def warn_of_skipped(skipped: Sequence[SkippedImage]) -> None:
    """Log which images are left out."""
    for bad in skipped:
        logger.warning(f"skipped: {bad.reason}")


def warn_of_missing_files(model: Embedder) -> None:
    """Print which files this model can't produce."""
    groups = model.architecture.groups
    missing = [] if groups == MARKET_GROUPS else [CLASSIFICATION_FILE]
    missing += [] if groups else [JUNK_SCORES_FILE]
    if missing:
        reason = "has other attributes than Market-1501's" if groups else "was trained without attributes"
        logger.warning(f"the model {reason}: {' and '.join(missing)} will not be written")


def keep_features(folder: Path, sets: Mapping[str, Embeddings], model: Embedder) -> None:
    """Write the embeddings of all images; process 0 writes, every process calls it."""
    group, fingerprint = Group.of(), fingerprint_of_model(model)
    for name, embeddings in sets.items():
        complete = embeddings.gathered(group)
        if group.is_main:
            save_features(folder, name, replace(complete, fingerprint=fingerprint))


if __name__ == "__main__":
    run_script(SETTINGS)
