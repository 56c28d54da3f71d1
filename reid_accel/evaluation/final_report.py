"""The end of a run: score the saved model, write report and predictions, optionally push to the hub.

For train.py and score.py; every process calls these functions, process 0 writes.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console

from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.config.parse import to_dict
from reid_accel.config.schema import Config, DataConfig, ScoreConfig
from reid_accel.course.predictions import write_attributes, write_junk_scores, write_predictions
from reid_accel.data.dataset import ImageDataset
from reid_accel.data.splits import OpenedData
from reid_accel.distributed.collectives import Group
from reid_accel.evaluation.evaluate import (
    attribute_entry,
    junk_entry,
    retrieval_entries,
    score_variants,
    score_within,
    validation_protocol,
)
from reid_accel.evaluation.rank_lists import Pictured, rank_lists, with_names
from reid_accel.evaluation.saved_features import FeaturesOrigin, write_saved_features
from reid_accel.evaluation.tracklets import compared, stamped
from reid_accel.files import write_json
from reid_accel.hub import push
from reid_accel.models.camera_embedding import knows_cameras
from reid_accel.models.reid import Architecture, ReIDModel, load_model, on_device
from reid_accel.reporting.card import write_model_card
from reid_accel.reporting.console import print_report
from reid_accel.reporting.html.page import write_html
from reid_accel.reporting.html.pictures import RankList
from reid_accel.reporting.provenance import hardware, software
from reid_accel.reporting.schema import FORMAT, Attributes, DataFacts, Junk, ModelFacts, Report, ReportFrame, Training
from reid_accel.retrieval.embed import AttributePredictions, embed_dataset
from reid_accel.retrieval.exported import Embedder
from reid_accel.retrieval.features import Embeddings
from reid_accel.retrieval.protocol import MARKET
from reid_accel.training.progress import Progress

logger = logging.getLogger(__name__)

PROTOCOLS_WITHIN = ("course", "course-strict", MARKET)
"""Protocols for randomly drawn validation images, besides the one that selects the best model."""


@dataclass(frozen=True)
class RunImages:
    """The images of a training run."""

    data: OpenedData
    trained_on: ImageDataset
    validation: ImageDataset | None


@dataclass(frozen=True, kw_only=True)
class ReportPlan:
    """What is scored and where the report is written."""

    data: OpenedData
    validation: ImageDataset | None
    trained_on: ImageDataset
    """The training images, for the majority baseline of attributes."""
    config: ScoreConfig
    seed: int
    frame: ReportFrame
    """The parts of the report that don't come from scoring."""
    folder: Path
    features: Path | None = None
    """Folder for the embeddings of query and gallery."""

    @property
    def images(self) -> dict[str, ImageDataset]:
        """The splits that are embedded."""
        wanted = {split: images for split, images in self.data.splits.items() if split != "train"}
        if self.validation is None or self.data.attributes_only:
            return wanted
        return {**wanted, "validation": self.validation}

    @property
    def labeled_split(self) -> str | None:
        """The split whose attributes are scored."""
        if self.data.attributes_only:
            return "test"
        return next((split for split in ("gallery", "validation") if split in self.images), None)


@dataclass(frozen=True)
class Embedded:
    """All splits embedded by a model; embeddings are this process's rows."""

    images: dict[str, ImageDataset]
    embeddings: dict[str, Embeddings]
    attributes: dict[str, AttributePredictions]

    @classmethod
    def by(cls, model: Embedder, plan: ReportPlan) -> "Embedded":
        """Embed each split once."""
        embeddings, attributes = {}, {}
        for split, images in plan.images.items():
            logger.info(f"embedding {len(images):,} images of {split}")
            embeddings[split], attributes[split] = embed_dataset(model, images, plan.config)
        return cls(plan.images, embeddings, attributes)


@dataclass(frozen=True)
class Scored:
    """Retrieval entries, and the best and worst queries of the first one."""

    entries: list[Any]
    best: list[RankList]
    worst: list[RankList]


def score_and_report(model: Embedder, plan: ReportPlan, accelerator: Accelerator) -> Report | None:
    """Embed every test image once, score, and write report.json, report.html and the predictions.

    Every process calls it; process 0 writes and gets the report (the others None).
    Raises InputError if model and data have different attributes.
    """
    embedded = Embedded.by(model, plan)
    scored = _score(embedded, plan, model)
    for path in _write_predictions(embedded, plan, model):
        logger.info(f"wrote {path}")
    if plan.features is not None and plan.data.labeled_test:
        origin = FeaturesOrigin.of(model, plan.data.fingerprint(), plan.config, plan.data.edition)
        write_saved_features(plan.features, embedded.embeddings, origin)
        logger.info(f"wrote the embeddings of query and gallery to {plan.features}")
    if not accelerator.is_main_process:
        return None
    labeled = plan.labeled_split
    return write_report(
        plan.folder,
        plan.frame,
        accelerator,
        retrieval=scored.entries,
        attributes=_attributes(labeled, embedded, plan, model.architecture.groups) if labeled is not None else None,
        junk=junk_entry(embedded.images["gallery"], embedded.attributes["gallery"]) if plan.data.labeled_test else None,
        shown=(scored.best, scored.worst),
    )


def _attributes(
    split: str, embedded: Embedded, plan: ReportPlan, model_groups: tuple[AttributeGroup, ...]
) -> Attributes | None:
    images, predicted = embedded.images[split], embedded.attributes[split]
    return attribute_entry(split, images, predicted, plan.trained_on, model_groups, plan.data.edition)


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
    """Write report.json and report.html; called on process 0 only."""
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


def _write_predictions(embedded: Embedded, plan: ReportPlan, model: Embedder) -> list[Path]:
    """Write the prediction files on process 0; returns the written files."""
    if plan.data.attributes_only:
        names, predicted = embedded.images["test"].name_N, embedded.attributes["test"]
        return [write_attributes(plan.folder, names, predicted, model.architecture)] if Group.of().is_main else []
    if not plan.data.labeled_test:
        return write_predictions(
            plan.folder,
            embedded.embeddings["queries"],
            embedded.embeddings["test"],
            embedded.attributes["test"],
            model.architecture,
            plan.config,
        )
    if not model.architecture.groups or not Group.of().is_main:
        return []
    return [write_junk_scores(plan.folder, embedded.images["gallery"].name_N, embedded.attributes["gallery"])]


def _score(embedded: Embedded, plan: ReportPlan, model: Embedder) -> Scored:
    """Query against gallery if both are labeled; validation images against each other under each protocol."""
    config, images, metric = plan.config, embedded.images, model.architecture.metric
    edition, known = plan.data.edition, isinstance(model, ReIDModel) and knows_cameras(model)
    entries = partial(retrieval_entries, flip=config.flip, crops=config.crops, edition=edition, cameras_given=known)
    scored = Scored([], [], [])
    if plan.data.labeled_test:
        query, gallery = (
            compared(Pictured(images[split], embedded.embeddings[split]), split, config.tracklets, metric)
            for split in ("query", "gallery")
        )
        query = replace(query, embeddings=query.embeddings.gathered(Group.of()))
        scores = score_variants(query.embeddings, gallery.embeddings, metric, config)
        shown = rank_lists(query, gallery, scores[0], config.shown_queries) if scores else ([], [])
        shown_named = (with_names(lists, plan.data.people) for lists in shown)
        scored = Scored(entries("query", "gallery", stamped(scores, config.tracklets)), *shown_named)
    for protocol in _protocols_within(plan):
        validation = embedded.embeddings["validation"]
        found = score_within(validation, protocol, metric, config, plan.seed)
        if found is None:
            continue
        queries, within = found
        drawn = f"{queries.num_rows} drawn from validation"
        scored.entries.extend(entries(drawn, "validation", [within]))
        if not plan.data.labeled_test and protocol == "course-strict":
            assert queries.source_row_N is not None
            drawn_images = images["validation"].select(queries.source_row_N)
            shown = rank_lists(
                Pictured(drawn_images, queries),
                Pictured(images["validation"], validation),
                within,
                config.shown_queries,
            )
            scored = Scored(scored.entries, *shown)
    return scored


def _protocols_within(plan: ReportPlan) -> tuple[str, ...]:
    if plan.validation is None or plan.data.attributes_only:
        return ()
    return tuple(dict.fromkeys((*PROTOCOLS_WITHIN, validation_protocol(plan.data, plan.validation))))


def model_facts(architecture: Architecture) -> ModelFacts:
    """The report's section on the network."""
    return {
        "backbone": architecture.model.backbone,
        "initial_weights": architecture.weights,
        "initial_weights_sha256": architecture.weights_sha256,
        "height_px": architecture.height_px,
        "width_px": architecture.width_px,
        "attributes": [group.name for group in architecture.groups],
    }


def data_facts(data: OpenedData, config: DataConfig) -> DataFacts:
    """The report's section on the images."""
    name = "own table" if data.own_table else config.name
    return {
        "name": name,
        "title": config.title or name,
        "drawn": config.drawn and not data.own_table,
        "root": config.table or config.root or ("passed as a table" if data.own_table else "drawn by the package"),
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
    folder: Path,
    images: RunImages,
    progress: Progress,
    accelerator: Accelerator,
    console: Console,
) -> Report | None:
    """Score the model in `folder/model`, write report and model card, and push to the hub if configured.

    Process 0 returns the report, the others None.
    """
    data = images.data
    model = on_device(load_model(folder / "model"), accelerator.device)
    plan = ReportPlan(
        data=data,
        validation=images.validation,
        trained_on=data.splits["train"] if data.has_test_labels else images.trained_on,
        config=config.score,
        seed=config.train.seed,
        frame={
            "title": config.run.name,
            "config": to_dict(config),
            "model": model_facts(model.architecture),
            "data": data_facts(data, config.data),
            "training": _training_facts(config, progress),
        },
        folder=folder,
    )
    with _explaining_interrupts(folder):
        report = score_and_report(model, plan, accelerator)
    if report is None:
        return None
    architecture = asdict(model.architecture)
    write_model_card(folder / "model", report, architecture.pop("model") | architecture, config.run.push_to)
    print_report(console, report)
    logger.info(f"report: {folder / 'report.html'}   model: {folder / 'model'}")
    if config.run.push_to:
        pushed = push(folder / "model", config.run.push_to, visibility=config.run.push_visibility)
        logger.info(pushed.lines()[-1])
    return report


@contextmanager
def _explaining_interrupts(folder: Path) -> Iterator[None]:
    """Ctrl-C during the final evaluation prints what is complete and how to continue."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            f"training is complete, the final evaluation is not. To evaluate again, repeat the command with --run.dir "
            f"{folder} --run.resume auto; or evaluate the model in {folder / 'model'} with score.py"
        ) from error


def _training_facts(config: Config, progress: Progress) -> Training:
    images_trained = progress.step * config.train.batch_size
    history: list[Any] = list(progress.history)
    return {
        "epochs": progress.epoch,
        "steps": progress.step,
        "minutes": progress.seconds / 60,
        "images_per_second": images_trained / progress.seconds if progress.seconds else 0.0,
        "best_epoch": progress.best_epoch,
        "seed": config.train.seed,
        "history": history,
    }
