"""Score a saved model on a data set, or saved features, on any number of processes.

accelerate launch reid_accel/score.py --model RUN/model --data.name market1501 --data.root FOLDER [--also NAME:DIR ...]
accelerate launch reid_accel/score.py --model RUN/model --data.name ... --features FEATURES
accelerate launch reid_accel/score.py --model EXPORT/model.onnx --data.name ...
accelerate launch reid_accel/score.py --features FEATURES --score.rerank
"""

import sys

from reid_accel.preflight import scoring_settings

if __name__ == "__main__":
    SETTINGS = scoring_settings(sys.argv[1:])  # before torch is imported, so that help and errors are immediate

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from rich.console import Console

from reid_accel.config.parse import to_dict
from reid_accel.config.schema import RunConfig, ScoringConfig, added_set
from reid_accel.data.open import open_data
from reid_accel.data.splits import OpenedData, split_training_images
from reid_accel.distributed.setup import process_group_scope, start_accelerator
from reid_accel.errors import InputError
from reid_accel.evaluation.evaluate import with_scoring_warning, with_vocabulary_warning
from reid_accel.evaluation.final_report import ReportPlan, data_facts, model_facts, score_and_report, write_report
from reid_accel.evaluation.saved_features import score_saved_features
from reid_accel.files import write_json
from reid_accel.models.reid import ReIDModel, on_device
from reid_accel.reporting.console import open_console, print_report, print_retrieval, sentences_for_users
from reid_accel.reporting.metrics import recognition_sentence
from reid_accel.reporting.schema import ModelFacts, Report, ReportFrame, Retrieval, SplitCounts
from reid_accel.retrieval.exported import Embedder, load_embedder
from reid_accel.retrieval.features import Embeddings
from reid_accel.training.run_dir import choose_run_folder

logger = logging.getLogger("reid_accel.score")  # the script's __name__ may be __main__


def main(arguments: Sequence[str]) -> None:
    """The script: from a model and a data set to a report; a user's mistake is reported as one sentence."""
    run_script(scoring_settings(arguments))


def run_script(config: ScoringConfig) -> None:
    """Score with the settings; a user's mistake is reported as one sentence, and all processes end together."""
    with process_group_scope() as watchdog, sentences_for_users(), ExitStack() as held:
        accelerator = start_accelerator("no", watchdog=watchdog)
        console = open_console(accelerator.is_main_process, config.log_level)
        score = score_features if config.model is None else score_model
        report, folder = score(config, accelerator, held)
        if report is not None:
            print_report(console, report)
            logger.info(f"report: {folder / 'report.html'}")
        if config.also:
            score_across(config, report, folder, accelerator, console, held)


def score_across(
    config: ScoringConfig,
    first: Report | None,
    folder: Path,
    accelerator: Accelerator,
    console: Console,
    held: ExitStack,
) -> None:
    """Score the model also on the additional sets; all sets go into one table and `domains.json`."""
    of_set: dict[str, Report | None] = {config.data.name: first}
    for entry in config.also:
        data = added_set(entry, "also", config.data)
        label = f"{data.name}-{Path(data.root or '').name}"
        one = replace(config, data=data, also=(), dir=str(folder / label))
        of_set[label] = score_model(one, accelerator, held)[0]
    entries: list[Retrieval] = []
    for label, report in of_set.items():
        for scored in report["retrieval"] if report is not None else []:
            named = scored.copy()
            named["split"] = f"{label}: {scored['split']}"
            entries.append(named)
    for label, report in of_set.items():
        if report is not None and report["attributes"] is not None and "protocol" in report["attributes"]:
            attributes = report["attributes"]
            logger.info(f"{label}: {recognition_sentence(attributes)} ({attributes['protocol']})")
    if accelerator.is_main_process:
        print_retrieval(console, entries)
        write_json(folder / "domains.json", entries)


def score_model(config: ScoringConfig, accelerator: Accelerator, held: ExitStack) -> tuple[Report | None, Path]:
    """Embed the data set's test images on all processes, score, report on process 0."""
    assert config.model is not None
    with accelerator.local_main_process_first():  # one download per machine
        model = load_embedder(config.model, config.model_module, config.preprocess)
    if isinstance(model, ReIDModel):
        model = on_device(model, accelerator.device)
    else:
        logger.info(f"{config.model}: SHA-256 {model.sha256}")
    data = open_data(config.data, model.architecture, for_training=False)
    data = with_scoring_warning(data)
    use_cameras_of(model, data, config)
    data = with_vocabulary_warning(data, model.architecture.groups)
    if config.features is not None and not data.labeled_test:
        raise InputError(f"--features saves query and gallery, but {config.data.name} has neither: omit it")
    training, held_out = split_training_images(data, config.data.validation_share)
    validation = None if data.has_test_labels else held_out  # without labels only the held-out people can be scored
    folder = choose_run_folder(RunConfig(name="score", dir=config.dir), accelerator, held)
    frame: ReportFrame = {
        "title": f"{config.model} on {config.data.title or config.data.name}",
        "config": to_dict(config),
        "model": facts_of(model),
        "data": data_facts(data, config.data),
        "training": None,
    }
    plan = ReportPlan(
        data=data,
        validation=validation,
        trained_on=data.splits["train"] if data.has_test_labels else training.images,
        config=config.score,
        seed=config.seed,
        frame=frame,
        folder=folder,
        features=Path(config.features) if config.features is not None else None,
    )
    return score_and_report(model, plan, accelerator), folder


def facts_of(model: Embedder) -> ModelFacts:
    """The report's section on the network; of an exported file with its name and hash."""
    if isinstance(model, ReIDModel):
        return model_facts(model.architecture)
    graph = model.architecture
    return {
        "backbone": graph.backbone,
        "height_px": graph.height_px,
        "width_px": graph.width_px,
        "attributes": [group.name for group in graph.groups],
        "exported_file": model.runtime.path.name,
        "exported_sha256": model.sha256,
        "exported_precision": graph.precision,
    }


def use_cameras_of(model: Embedder, data: OpenedData, config: ScoringConfig) -> None:
    """Let a model with a camera embedding use the data's camera numbers, if they are those of its training set."""
    if not isinstance(model, ReIDModel) or model.camera_embedding is None:
        return
    trained_on = model.architecture.cameras.data_set
    same = config.cameras == "same" or (config.cameras == "auto" and trained_on == data.camera_set)
    model.camera_embedding.is_known_set = same
    if not same:
        logger.warning(
            f"the model has embeddings of the cameras of {trained_on or 'its training set'}; all cameras of "
            f"{data.camera_set} get their mean. If they are the same cameras with the same numbers, set --cameras same"
        )


def score_features(config: ScoringConfig, accelerator: Accelerator, held: ExitStack) -> tuple[Report | None, Path]:
    """Score saved embeddings, without images or network."""
    assert config.features is not None
    entries, features = score_saved_features(Path(config.features), config.score, accelerator.device)
    folder = choose_run_folder(RunConfig(name="score", dir=config.dir), accelerator, held)
    if not accelerator.is_main_process:
        return None, folder
    frame: ReportFrame = {
        "title": f"saved features {Path(config.features).name}",
        "config": to_dict(config),
        "model": None,
        "data": {
            "name": "saved features",
            "title": f"saved features {Path(config.features).name}",
            "drawn": False,
            "root": config.features,
            "fingerprint": features["gallery"].fingerprint,
            "splits": {split: _counts(embeddings) for split, embeddings in features.items()},
            "warnings": [],
            "skipped_images": [],
        },
        "training": None,
    }
    return write_report(folder, frame, accelerator, retrieval=entries), folder


def _counts(embeddings: Embeddings) -> SplitCounts:
    pids, cameras = embeddings.pid_N, embeddings.camera_N
    return {
        "images": len(pids),
        "identities": len(np.unique(pids[pids > 0])),
        "cameras": len(np.unique(cameras[cameras >= 0])),
    }


if __name__ == "__main__":
    run_script(SETTINGS)
