"""Train a person re-identification model with attributes, score it, and package it.

accelerate launch reid_accel/train.py [--config configs/NAME.yaml] [--section.setting value ...]
"""

import sys

from reid_accel.preflight import training_settings

if __name__ == "__main__":
    SETTINGS = training_settings(sys.argv[1:])  # before torch is imported: help and mistakes are answered at once

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console

from reid_accel.config.parse import to_dict, to_yaml
from reid_accel.config.schema import Config, RunConfig
from reid_accel.data.crop_cache import Say
from reid_accel.data.dataset import ImageDataset
from reid_accel.data.open import open_data
from reid_accel.data.sets import SYNTHETIC
from reid_accel.data.splits import OpenedData, TrainingSet, require_matches, split_training_images
from reid_accel.distributed.collectives import Group
from reid_accel.distributed.fsdp import check_sharding, replica
from reid_accel.distributed.setup import (
    EXIT_STOPPED,
    StopRequest,
    process_group_scope,
    start_accelerator,
)
from reid_accel.distributed.watchdog import mark
from reid_accel.evaluation.evaluate import score_validation, validation_protocol
from reid_accel.evaluation.final_report import RunImages, finish_run
from reid_accel.files import write_text
from reid_accel.hardware import choose_kernels, tf32
from reid_accel.models.backbone import starting_weights
from reid_accel.models.reid import ReIDModel, import_module
from reid_accel.reporting.console import epoch_bar, epoch_line, open_console, sentences_for_users
from reid_accel.reporting.provenance import software
from reid_accel.reporting.tracking import Tracking, check_trackers
from reid_accel.training.build import build_model, build_trainer
from reid_accel.training.checkpoint import (
    Progress,
    RunFingerprint,
    TrainingState,
    checkpoint_of,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
    set_aside_later,
    step_of,
)
from reid_accel.training.metrics import EpochSums, epoch_numbers, require_finite
from reid_accel.training.nonfinite import NonFiniteSkipper
from reid_accel.training.out_of_memory import OutOfMemoryAdvice
from reid_accel.training.run_dir import choose_run_folder, save_model
from reid_accel.training.run_paths import resumed_after_restart
from reid_accel.training.trainer import Trainer

STOPPED_FILE = "STOPPED"  # there after an orderly stop: launch/slurm.sh puts such a run back into the queue


@dataclass(frozen=True)
class Run:
    """What stays the same during a run."""

    config: Config
    accelerator: Accelerator
    console: Console
    folder: Path
    data: OpenedData
    validation: ImageDataset | None
    model: ReIDModel
    trainer: Trainer
    state: TrainingState
    identity: RunFingerprint
    tracking: Tracking
    stop: StopRequest

    def scored_model(self) -> ReIDModel:
        """What is validated and saved: the averaged weights where there are any. Every process must call it.

        Each process has batch norm's statistics of its own part of the images; the saved ones are process 0's.
        """
        model = self.trainer.average.model if self.trainer.average is not None else self.model
        Group.of().broadcast_buffers(model)
        return replica(model)


def main(arguments: Sequence[str]) -> None:
    """The script: settings in, a run folder out; a user's mistake becomes a sentence."""
    run_script(training_settings(arguments))


def run_script(config: Config) -> None:
    """Train with the settings; a user's mistake becomes a sentence, and all processes end together."""
    with process_group_scope(), sentences_for_users():
        train(config)


def train(config: Config) -> None:
    """One run, from images to a scored and packaged model."""
    complete(*prepare(config))


def complete(run: Run, progress: Progress) -> None:
    """All that is left of a run: epochs, final scores, package."""
    config = run.config
    try:
        progress = train_epochs(run, progress)
    except BaseException:
        if run.accelerator.num_processes == 1:
            run.stop.restore()  # of several, one that fails has to tell the others before a launcher's signal ends it
        raise
    run.stop.restore()
    if run.validation is None:
        keep_model(run, run.scored_model())
    run.accelerator.wait_for_everyone()
    mark("final scores")
    images = RunImages(run.data, run.trainer.data.images, run.validation)
    finish_run(config, run.folder, images, progress, run.accelerator, run.console)
    run.tracking.close()


def train_epochs(run: Run, progress: Progress) -> Progress:
    """All epochs that are left: train, once in a while validate, checkpoint."""
    config = run.config
    while progress.epoch < config.train.epochs:
        with OutOfMemoryAdvice(run.trainer):
            progress = train_epoch(run, progress)
        if progress.position > 0:  # stopped on the way
            leave(run)
        if validation_is_due(progress, config):
            progress = validate(run, progress)
        run.console.print(epoch_line(progress.history[-1], config.train.epochs), soft_wrap=True)
        run.tracking.log(progress.step, progress.history[-1])
        checkpoint(run, progress)
    return progress


def prepare(config: Config) -> tuple[Run, Progress]:
    """Open the data, build the model, choose the folder, and take up a former run's progress."""
    accelerator = start_accelerator(
        config.run.mixed_precision, config.train.accumulation_steps, config.run.cpu_threads, config.run.stall_minutes
    )
    console = open_console(accelerator.is_main_process)
    choose_kernels(deterministic=config.run.deterministic)
    check_sharding(accelerator, config.run)
    config.micro_batch_size(accelerator.num_processes)  # raises when the batch can't be shared
    software()  # notes the commit that this run is made with, before the checkout moves on
    check_trackers(config.run.trackers)

    if config.model.module is not None:
        import_module(config.model.module)
    with accelerator.local_main_process_first():  # one download per machine
        weights = starting_weights(config.model)
    data = open_data(config.data, config.model, console.print)
    require_matches(data)
    training, validation = split_training_images(data, config.data.validation_share)
    model = build_model(config, training, accelerator, weights)
    trainer = build_trainer(config, accelerator, model, training, console.print)
    trainer.epoch_batches(0)  # raises when the images don't fill a batch

    config = replace(config, run=resumed_after_restart(config.run))
    folder = choose_run_folder(config.run, accelerator)
    guard = None
    if skips(config, accelerator):
        guard = NonFiniteSkipper(model, config.train.skip_nonfinite, f"{folder / 'checkpoints'}")
    trainer = replace(trainer, guard=guard)
    average = trainer.average.model if trainer.average is not None else None
    state = TrainingState(model, trainer.optimizer, accelerator.scaler, average)
    identity = RunFingerprint(to_dict(config), data.fingerprint(), accelerator.num_processes)
    progress = resume(config.run, folder, state, identity, accelerator, console.print)
    if guard is not None:
        guard.skipped = progress.skipped_steps
    if accelerator.is_main_process:
        write_text(folder / "config.yaml", to_yaml(config))
        (folder / STOPPED_FILE).unlink(missing_ok=True)
    done = {"resume_step": progress.step, "resume_lines": progress.logged_lines}
    tracking = Tracking(folder, accelerator, config.run.trackers, to_dict(config), **done)
    announce(console, config, folder, trainer, validation)
    run = Run(
        config=config,
        accelerator=accelerator,
        console=console,
        folder=folder,
        data=data,
        validation=validation,
        model=model,
        trainer=trainer,
        state=state,
        identity=identity,
        tracking=tracking,
        stop=StopRequest(),
    )
    return run, progress


def resume(
    config: RunConfig, folder: Path, state: TrainingState, identity: RunFingerprint, accelerator: Accelerator, say: Say
) -> Progress:
    """The progress of a former run, its weights and optimizer put in place; a beginning when there is none."""
    if config.resume is None:
        return Progress()
    path: Path | None = Path(config.resume)
    if config.resume == "auto":  # process 0 chooses: a file system may show others something else
        path = newest_checkpoint(folder / "checkpoints", say) if accelerator.is_main_process else None
        step = Group.of().broadcast_int(step_of(path) if path is not None else -1)
        path = checkpoint_of(folder / "checkpoints", step) if step >= 0 else None
    if path is None:
        say(f"there is no checkpoint in {folder / 'checkpoints'}: starting at the beginning")
        return Progress()
    progress = load_checkpoint(path, state, identity, anyway=config.resume_anyway, say=say)
    if config.resume != "auto" and accelerator.is_main_process:
        set_aside_later(folder / "checkpoints", progress.step, say)
    say(f"going on with {path}: epoch {progress.epoch + 1}, step {progress.step}")
    return progress


def skips(config: Config, accelerator: Accelerator) -> bool:
    """Whether steps may be left out; with float16 the gradient's scaler does that by itself."""
    return config.train.skip_nonfinite > 0 and accelerator.mixed_precision != "fp16"


def announce(console: Console, config: Config, folder: Path, trainer: Trainer, validation: ImageDataset | None) -> None:
    """Say what is about to happen."""
    accelerator, training = trainer.accelerator, trainer.data
    for note in notes(config, accelerator, training):
        console.print(f"[yellow]note:[/] {note}", soft_wrap=True)
    held_out = f"{len(validation):,} images validate" if validation is not None else "no validation"
    console.print(
        f"[bold]{config.run.name}[/]: {config.model.backbone} at {config.model.height_px}x{config.model.width_px}, "
        f"{len(training.images):,} images of {training.num_identities} identities train, {held_out}\n"
        f"{config.train.epochs} epochs x {trainer.steps_per_epoch} steps x {config.train.batch_size} images on "
        f"{accelerator.num_processes} x {accelerator.device.type}, precision {accelerator.mixed_precision}, "
        f"seed {config.train.seed}; everything goes to {folder}",
        soft_wrap=True,
    )


def notes(config: Config, accelerator: Accelerator, training: TrainingSet) -> list[str]:
    """What a user may not expect of these settings with this data."""
    said = []
    if config.run.name == "quickstart" and config.data.name not in SYNTHETIC:
        said.append(
            "without --config this is the quickstart's small network, from scratch; the recipes for real data are in "
            "configs/"
        )
    if config.model.attributes and config.loss.attributes > 0 and not training.images.groups:
        said.append(
            "this data has no attributes (market_attribute.mat beside its folders): identities alone are trained. "
            "--model.no-attributes says that it is meant so"
        )
    if config.optim.frozen_epochs and not (config.model.pretrained or config.model.weights_file):
        said.append(
            f"optim.frozen-epochs {config.optim.frozen_epochs:g} keeps the backbone as it starts, which is at random: "
            "set it to 0"
        )
    if config.train.skip_nonfinite and not skips(config, accelerator):
        said.append(
            "train.skip-nonfinite has no part in float16: its gradient scaler leaves out what is not finite by itself, "
            "any number of steps"
        )
    if config.train.batch_norm == "frozen" and not (config.model.pretrained or config.model.weights_file):
        said.append(
            "train.batch-norm frozen keeps the statistics of pretrained weights, and this run starts from random ones: "
            "the backbone's batch norms normalize nothing"
        )
    return said


def train_epoch(run: Run, progress: Progress) -> Progress:
    """The rest of an epoch; ends early, with a position above 0, when the run is asked to stop."""
    trainer, config, accelerator = run.trainer, run.config, run.accelerator
    rows_SB = trainer.epoch_batches(progress.epoch)
    sums = EpochSums.restored(progress.epoch_sums, accelerator)
    first, begun, saved = progress, time.perf_counter(), time.perf_counter()

    def numbers_so_far() -> dict[str, Any]:
        total = sums.over_processes(accelerator)
        seconds = time.perf_counter() - begun
        done = (progress.position - first.position) * config.train.batch_size
        parts_per_step = accelerator.num_processes * config.train.accumulation_steps
        require_finite(total, progress.step - progress.position, parts_per_step, str(run.folder / "checkpoints"))
        speed = {"learning_rate": trainer.rate, "images_per_second": done / seconds}
        return epoch_numbers(total, config.loss) | speed

    def checkpoint_within_epoch() -> None:
        numbers_so_far()  # raises when the weights are spoilt: those are not to be kept
        seconds = progress.seconds + time.perf_counter() - begun
        checkpoint(run, replace(progress, epoch_sums=sums.over_processes(accelerator), seconds=seconds))

    with (
        epoch_bar(run.console, progress.epoch, config.train.epochs, len(rows_SB), progress.position) as show,
        tf32(config.run.tf32),
        closing(trainer.open_batches(rows_SB[progress.position :], progress.epoch)) as batches,
    ):
        while progress.position < len(rows_SB):
            sums = trainer.step(batches, trainer.schedule_step(progress.epoch, progress.position), sums)
            progress = progress.after_step(trainer.guard.skipped if trainer.guard is not None else 0)
            show(progress.position)

            if progress.step % config.run.log_every_steps == 0:
                numbers = numbers_so_far()
                run.tracking.log(progress.step, {"epoch": progress.epoch + 1, **numbers})
                show(
                    progress.position,
                    loss=numbers["loss"],
                    lr=trainer.rate,
                    speed=numbers["images_per_second"],
                )
            stop, save = run.stop.agreed(
                accelerator, progress.step, config.run.log_every_steps, save=minutes_are_over(saved, config.run)
            )
            if stop or save or (config.run.checkpoint_steps and progress.step % config.run.checkpoint_steps == 0):
                checkpoint_within_epoch()
                saved = time.perf_counter()
            if stop:
                return progress
    numbers = numbers_so_far()
    if trainer.guard is not None:
        numbers["skipped_steps"] = progress.skipped_steps
    return progress.after_epoch({"epoch": progress.epoch + 1, **numbers}, time.perf_counter() - begun)


def minutes_are_over(saved: float, config: RunConfig) -> bool:
    """Whether the last checkpoint, at that reading of the clock, is so long ago that another is due."""
    return config.checkpoint_minutes > 0 and time.perf_counter() - saved > 60 * config.checkpoint_minutes


def validation_is_due(progress: Progress, config: Config) -> bool:
    """Every so many epochs, and after the last."""
    return progress.epoch % config.train.validate_every_epochs == 0 or progress.epoch == config.train.epochs


def validate(run: Run, progress: Progress) -> Progress:
    """Score the held-out persons and keep the model if it is the best so far; all processes take part."""
    if run.validation is None:
        return progress
    mark("validation")
    model = run.scored_model()
    line = score_validation(
        model,
        run.validation,
        run.trainer.data.images.attributes_NA,
        run.config.score,
        validation_protocol(run.data.labeled_test),
        run.config.train.seed,
    )
    progress = replace(progress, history=(*progress.history[:-1], {**progress.history[-1], **line}))
    score = line["validation_mAP"]
    if progress.best_score is not None and (score is None or score <= progress.best_score):
        return progress
    keep_model(run, model)
    return replace(progress, best_score=score, best_epoch=progress.epoch, best_step=progress.step)


def keep_model(run: Run, model: ReIDModel) -> None:
    """Package a model as the run's; process 0 writes."""
    if run.accelerator.is_main_process:
        save_model(model, run.folder / "model")


def checkpoint(run: Run, progress: Progress) -> None:
    """Keep all that a resumed run needs; process 0 writes."""
    mark("checkpoint")
    keep, writes = run.config.run.keep_checkpoints, run.accelerator.is_main_process
    progress = replace(progress, logged_lines=run.tracking.lines)
    save_checkpoint(run.folder / "checkpoints", run.state, progress, run.identity, keep=keep, writes=writes)


def leave(run: Run) -> None:
    """After a stop request: say how to go on, and exit so that a scheduler knows it may start the run again."""
    run.accelerator.wait_for_everyone()
    run.tracking.close()
    if run.accelerator.is_main_process:
        write_text(run.folder / STOPPED_FILE, "asked to stop; resume with --run.resume auto\n")
    name = run.stop.signal_name or "a stop request on another process"
    run.console.print(
        f"stopped by {name}; everything is kept in {run.folder}. Go on with the same command and "
        f"[bold]--run.dir {run.folder} --run.resume auto[/]",
        soft_wrap=True,
    )
    sys.exit(EXIT_STOPPED)


if __name__ == "__main__":
    run_script(SETTINGS)
