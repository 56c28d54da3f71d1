"""The end of a run: score the model that was kept, write what people read, push it if asked to.

Shared by train.py and score.py; every process calls these functions, process 0 writes.
"""

from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import Accelerator
from rich.console import Console

from reid_accel import hub
from reid_accel.config.parse import to_dict
from reid_accel.config.schema import Config, DataConfig, ScoreConfig
from reid_accel.course.predictions import write_junk_scores, write_predictions
from reid_accel.data.dataset import ImageDataset
from reid_accel.data.splits import OpenedData
from reid_accel.evaluation.evaluate import (
    LabeledSet,
    attribute_entry,
    junk_entry,
    rank_lists,
    require_fitting_vocabulary,
    retrieval_entry,
    score_pair,
    score_within,
)
from reid_accel.evaluation.saved_features import write_saved_features
from reid_accel.files import write_json
from reid_accel.models.reid import Architecture, ReIDModel, load_model, on_device
from reid_accel.reporting.card import write_model_card
from reid_accel.reporting.console import print_report
from reid_accel.reporting.html.page import write_html
from reid_accel.reporting.html.pictures import RankList
from reid_accel.reporting.provenance import hardware, software
from reid_accel.reporting.schema import FORMAT, Attributes, DataFacts, Junk, ModelFacts, Report, ReportFrame
from reid_accel.retrieval.embed import predict_sharded
from reid_accel.training.checkpoint import Progress


def score_and_report(
    model: ReIDModel,
    data: OpenedData,
    validation: ImageDataset | None,
    trained_on: ImageDataset,
    accelerator: Accelerator,
    config: ScoreConfig,
    folder: Path,
    *,
    seed: int,
    frame: ReportFrame,
    console: Console,
    features: Path | None = None,
) -> Report | None:
    """Embed every test image once, score, and write report.json, report.html and the predictions.

    Every process calls it; process 0 writes and gets the report (the others None). `frame` holds
    the report's parts that don't come from scoring (title, config, training). features: a folder for the
    embeddings of query and gallery.
    Raises InputError when model and data have different attributes.
    """
    architecture = model.architecture
    for images in data.splits.values():
        require_fitting_vocabulary(architecture.groups, images.groups)
    wanted = {split: images for split, images in data.splits.items() if split != "train"}
    if validation is not None:
        wanted["validation"] = validation
    labeled = {}
    for split, images in wanted.items():
        console.print(f"embedding {len(images):,} images of {split}")
        predictions = predict_sharded(
            model, images, accelerator, batch_size=config.batch_size, flip=config.flip, crops=config.crops
        )
        labeled[split] = LabeledSet(split, images, predictions)
    scored = _score(labeled, data.labeled_test, architecture.metric, config, seed)
    _write_predictions(labeled, data.labeled_test, architecture, config, folder, console, accelerator.is_main_process)
    if features is not None and data.labeled_test:
        write_saved_features(features, labeled, model, data.fingerprint(), config, accelerator.is_main_process)
        console.print(f"wrote the embeddings of query and gallery to {features}", markup=False)
    if not accelerator.is_main_process:
        return None
    majority_of = data.splits["train"] if data.labeled_test else trained_on
    attributed = labeled.get("gallery") or labeled.get("validation")
    return write_report(
        folder,
        frame,
        accelerator,
        retrieval=scored.retrieval,
        attributes=attribute_entry(attributed, majority_of.attributes_NA) if attributed else None,
        junk=junk_entry(labeled["gallery"]) if data.labeled_test else None,
        shown=(scored.best, scored.worst),
    )


def write_report(
    folder: Path,
    frame: ReportFrame,
    accelerator: Accelerator,
    *,
    retrieval: list[Any],
    attributes: Attributes | None = None,
    junk: Junk | None = None,
    shown: tuple[list[RankList], list[RankList]] = ([], []),
) -> Report:
    """Write report.json and report.html; called on process 0 alone."""
    report: Report = {
        "format": FORMAT,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "software": software(),
        "hardware": hardware(accelerator.device, accelerator.num_processes, accelerator.mixed_precision),
        "retrieval": retrieval,
        "attributes": attributes,
        "junk": junk,
        **frame,
    }
    write_json(folder / "report.json", report)
    write_html(folder / "report.html", report, *shown)
    return report


def _write_predictions(
    labeled: dict[str, LabeledSet],
    labeled_test: bool,
    architecture: Architecture,
    config: ScoreConfig,
    folder: Path,
    console: Console,
    is_main_process: bool,
) -> None:
    written = []
    if labeled_test:
        gallery = labeled["gallery"]
        if architecture.groups and is_main_process:
            written = [write_junk_scores(folder, gallery.images, gallery.predictions)]
    else:
        queries, test = labeled["queries"], labeled["test"]
        written = write_predictions(
            folder,
            (queries.images, queries.predictions),
            (test.images, test.predictions),
            architecture,
            config,
            is_main_process=is_main_process,
        )
    for path in written:
        console.print(f"wrote {path}")


class _Scored(NamedTuple):
    retrieval: list[Any]
    best: list[RankList]
    worst: list[RankList]


def _score(labeled: dict[str, LabeledSet], labeled_test: bool, metric: str, config: ScoreConfig, seed: int) -> _Scored:
    """Query against gallery where both are labeled; the validation split within itself by each protocol."""
    entries: list[Any] = []
    shown: tuple[list[RankList], list[RankList]] = ([], [])
    if labeled_test:
        query, gallery = labeled["query"], labeled["gallery"]
        entries, plain = score_pair(query, gallery, metric, config)
        shown = rank_lists(query, gallery, plain, config.shown_queries)
    for protocol in ("course", "course-strict", "market1501") if "validation" in labeled else ():
        scored = score_within(labeled["validation"], protocol, metric, config, seed)
        if scored is None:
            continue
        rows, scores = scored
        drawn = f"{len(rows)} drawn from validation"
        entries.append(retrieval_entry(drawn, "validation", scores, flip=config.flip, crops=config.crops))
        if not labeled_test and protocol == "course-strict":
            validation = labeled["validation"]
            shown = rank_lists(validation, validation, scores, config.shown_queries, drawn=rows)
    return _Scored(entries, *shown)


def model_facts(architecture: Architecture) -> ModelFacts:
    """The report's part about the network."""
    return {
        "backbone": architecture.model.backbone,
        "height_px": architecture.height_px,
        "width_px": architecture.width_px,
        "attributes": [group.name for group in architecture.groups],
    }


def data_facts(data: OpenedData, config: DataConfig) -> DataFacts:
    """The report's part about the images."""
    name = "own table" if data.own_table else config.name
    return {
        "name": name,
        "title": config.title or name,
        "drawn": config.drawn and not data.own_table,
        "root": config.root or ("passed as a table" if data.own_table else "drawn by the package"),
        "fingerprint": data.fingerprint(),
        "splits": {
            split: {"images": len(images), "identities": images.num_identities, "cameras": images.num_cameras}
            for split, images in data.splits.items()
        },
        "warnings": list(data.warnings),
        "skipped_images": [{"name": image.name, "reason": image.reason} for image in data.skipped],
    }


def finish_run(
    config: Config,
    accelerator: Accelerator,
    console: Console,
    folder: Path,
    data: OpenedData,
    validation: ImageDataset | None,
    trained_on: ImageDataset,
    progress: Progress,
) -> None:
    """Score the model in `folder/model`, write report and model card, push to the hub if asked to."""
    model = on_device(load_model(folder / "model"), accelerator.device)
    images_trained = progress.step * config.train.batch_size
    history: list[Any] = list(progress.history)
    frame: ReportFrame = {
        "title": config.run.name,
        "config": to_dict(config),
        "model": model_facts(model.architecture),
        "data": data_facts(data, config.data),
        "training": {
            "epochs": progress.epoch,
            "steps": progress.step,
            "minutes": progress.seconds / 60,
            "images_per_second": images_trained / progress.seconds if progress.seconds else 0.0,
            "best_epoch": progress.best_epoch,
            "seed": config.train.seed,
            "history": history,
        },
    }
    report = score_and_report(
        model,
        data,
        validation,
        trained_on,
        accelerator,
        config.score,
        folder,
        seed=config.train.seed,
        frame=frame,
        console=console,
    )
    if report is None:
        return
    architecture = asdict(model.architecture)
    write_model_card(folder / "model", report, architecture.pop("model") | architecture, config.run.push_to)
    print_report(console, report)
    console.print(f"report: {folder / 'report.html'}   model: {folder / 'model'}", soft_wrap=True)
    if config.run.push_to:
        pushed = hub.push(folder / "model", config.run.push_to, visibility=config.run.push_visibility)
        console.print(pushed.lines()[-1], markup=False, soft_wrap=True)
