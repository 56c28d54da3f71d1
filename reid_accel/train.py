"""Train a person re-identification model with attributes, evaluate it, and package it.

accelerate launch reid_accel/train.py [--config configs/NAME.yaml] [--section.setting value ...]
"""

import sys

from reid_accel.preflight import training_settings

if __name__ == "__main__":
    SETTINGS = training_settings(sys.argv[1:])  # before torch is imported, so that help and errors are immediate

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console

from reid_accel.config.environment import ignored_settings
from reid_accel.config.parse import to_dict, to_yaml
from reid_accel.config.schema import Config
from reid_accel.data.dataset import ImageDataset
from reid_accel.data.open import open_data
from reid_accel.data.splits import OpenedData, split_training_images
from reid_accel.distributed.collectives import Group
from reid_accel.distributed.fsdp import check_sharding
from reid_accel.distributed.setup import process_group_scope, start_accelerator
from reid_accel.distributed.stop import EXIT_STOPPED, StopRequest
from reid_accel.distributed.watchdog import Watchdog
from reid_accel.doctor.short_form import with_label_warnings
from reid_accel.evaluation.evaluate import score_validation, validation_protocol, with_scoring_warning
from reid_accel.evaluation.final_report import RunImages, finish_run
from reid_accel.files import write_text
from reid_accel.hardware import choose_kernels, choose_precision, load_average, tf32
from reid_accel.models.backbone import starting_weights
from reid_accel.models.reid import ReIDModel, import_module
from reid_accel.models.trial import require_trainable
from reid_accel.reporting.console import epoch_bar, epoch_line, open_console, sentences_for_users
from reid_accel.reporting.tracking import Tracking, check_trackers, start_trackers
from reid_accel.training.additions import NOTHING, Additions
from reid_accel.training.build import build_model, build_trainer
from reid_accel.training.checkpoint import RunFingerprint, save_checkpoint
from reid_accel.training.metrics import EpochSums, epoch_numbers, require_finite
from reid_accel.training.notes import notes, opening
from reid_accel.training.out_of_memory import OutOfMemoryAdvice
from reid_accel.training.progress import Clock, Progress
from reid_accel.training.resume import resume
from reid_accel.training.run_dir import choose_run_folder, save_model
from reid_accel.training.run_paths import resumed_after_restart
from reid_accel.training.trainer import Trainer

logger = logging.getLogger("reid_accel.train")  # the script's __name__ may be __main__
STOPPED_FILE = "STOPPED"  # there after an orderly stop: launch/slurm.sh puts such a run back into the queue


@dataclass(frozen=True)
class Run:
    """The constant objects of a run."""

    config: Config
    accelerator: Accelerator
    console: Console
    folder: Path
    data: OpenedData
    validation: ImageDataset | None
    trainer: Trainer
    identity: RunFingerprint
    tracking: Tracking
    watchdog: Watchdog
    stop: StopRequest = field(default_factory=StopRequest)


def main(arguments: Sequence[str]) -> None:
    """The script: from settings to a run folder; a user's mistake is reported as one sentence."""
    run_script(training_settings(arguments))


def run_script(config: Config) -> None:
    """Train with the settings; a user's mistake is reported as one sentence, and all processes end together."""
    with process_group_scope(config.run.stall_minutes) as watchdog, sentences_for_users():
        train(config, watchdog)


def train(config: Config, watchdog: Watchdog, additions: Additions = NOTHING) -> Path:
    """One run, from images to an evaluated and packaged model; returns the run's folder."""
    with ExitStack() as held:
        run, progress = prepare(config, watchdog, additions, held)
        complete(run, progress)
    return run.folder


def prepare(
    config: Config, watchdog: Watchdog, additions: Additions = NOTHING, held: ExitStack | None = None
) -> tuple[Run, Progress]:
    """Set up: data, network, trainer, folder (see `choose_run_folder`), and the progress of a resumed run."""
    config, load = replace(config, run=resumed_after_restart(config.run)), load_average()
    precision = choose_precision(config.run.mixed_precision, config.model.width_px)
    accelerator = start_accelerator(precision, config.train.accumulation_steps, config.run.cpu_threads, watchdog)
    console = open_console(accelerator.is_main_process, config.run.log_level)
    choose_kernels(deterministic=config.run.deterministic)
    check_sharding(accelerator, config.run)
    micro_batch = config.micro_batch_size(accelerator.num_processes)
    check_trackers(config.run.trackers)

    if config.model.module is not None:
        import_module(config.model.module)
    with accelerator.autocast():
        require_trainable(config.model, accelerator.device)
    with accelerator.local_main_process_first():  # one download per machine
        weights = starting_weights(config.model)
    data = open_data(config.data, config.model, listing=additions.listing)
    data = with_label_warnings(with_scoring_warning(data))
    training, validation = split_training_images(data, config.data.validation_share)
    model = build_model(config, training, accelerator, weights)
    trainer = build_trainer(config, accelerator, model, training, additions.losses, watchdog)
    steps = len(trainer.epoch_batches(epoch=0))

    start = partial(start_trackers, accelerator, config.run.trackers, to_dict(config), config.run.name)
    Group.of().together(start)  # before a folder is made or cleared
    folder = choose_run_folder(config.run, accelerator, held)
    test_images = data.split_fingerprints()
    training_images = test_images.pop("train")
    identity = RunFingerprint(to_dict(config), training_images, accelerator.num_processes, test_images)
    progress = resume(config.run, folder / "checkpoints", trainer.state, identity)
    kept = {"resume_step": progress.step, "resume_lines": progress.logged_lines}
    tracking = Tracking(folder, accelerator, config.run.trackers, to_dict(config), **kept)
    if accelerator.is_main_process:
        write_text(folder / "config.yaml", to_yaml(config))
        (folder / STOPPED_FILE).unlink(missing_ok=True)
    for note in (*ignored_settings(config), *notes(trainer, load)):
        logger.warning(note)
    for line in opening(folder, trainer, validation, steps, micro_batch):
        logger.info(line)
    return Run(config, accelerator, console, folder, data, validation, trainer, identity, tracking, watchdog), progress


def complete(run: Run, progress: Progress) -> None:
    """Run the remaining epochs, then evaluate and package the model."""
    config = run.config
    with run.stop:
        while progress.epoch < config.train.epochs:
            with OutOfMemoryAdvice(run.trainer):
                progress = train_epoch(run, progress)
            is_last = progress.epoch == config.train.epochs
            if run.validation is not None and (is_last or progress.epoch % config.train.validate_every_epochs == 0):
                progress = validate_epoch(run, run.validation, progress)
            logger.info(epoch_line(progress.history[-1], config.train.epochs))
            run.tracking.log(progress.step, progress.history[-1])
            checkpoint(run, progress)
    if run.validation is None:
        keep_model(run, run.trainer.evaluated_model())
    run.accelerator.wait_for_everyone()
    run.watchdog.mark("final evaluation")
    images = RunImages(run.data, run.trainer.data.images, run.validation)
    report = finish_run(config, run.folder, images, progress, run.accelerator, run.console)
    run.tracking.log_final(progress.step, report)
    run.tracking.close()


def train_epoch(run: Run, progress: Progress) -> Progress:
    """Run the rest of an epoch; after a stop request, exits with a checkpoint."""
    trainer, config = run.trainer, run.config
    rows_SB = trainer.epoch_batches(progress.epoch)
    sums = EpochSums.restored(progress.epoch_sums, run.accelerator)
    clock, saved = Clock(progress.position), time.perf_counter()
    with (
        epoch_bar(run.console, progress.epoch, config.train.epochs, len(rows_SB), progress.position) as show,
        tf32(config.run.tf32),
        closing(trainer.open_batches(rows_SB, progress.epoch, progress.position)) as batches,
    ):
        while progress.position < len(rows_SB):
            before = sums
            sums = trainer.step(batches, trainer.schedule_step(progress.epoch, progress.position), sums)
            progress = progress.after_step(skipped=sums is before)
            if trainer.skipper is not None:
                trainer.skipper.require_within_limit(progress.skipped_steps, progress.step)
            show(progress.position)

            if progress.step % config.run.log_every_steps == 0:
                numbers = numbers_so_far(run, progress, sums, clock)
                run.tracking.log(progress.step, {"epoch": progress.epoch + 1, **numbers})
                show(progress.position, loss=numbers["loss"], speed=numbers["images_per_second"])

            minutes_are_over = 0 < config.run.checkpoint_minutes < (time.perf_counter() - saved) / 60
            stop, save = run.stop.agreed(progress.step, config.run.log_every_steps, save=minutes_are_over)
            if stop or save or (config.run.checkpoint_steps and progress.step % config.run.checkpoint_steps == 0):
                totals = finite_totals(run, progress, sums)
                checkpoint(run, replace(progress, epoch_sums=totals, seconds=progress.seconds + clock.seconds))
                saved = time.perf_counter()
            if stop:
                leave(run)
    numbers = numbers_so_far(run, progress, sums, clock)
    if trainer.skipper is not None:
        numbers["skipped_steps"] = progress.skipped_steps
    return progress.after_epoch({"epoch": progress.epoch + 1, **numbers}, clock.seconds)


def finite_totals(run: Run, progress: Progress, sums: EpochSums) -> dict[str, float]:
    """The epoch's sums over all processes. Raises InputError, before weights are saved, if a loss wasn't finite."""
    totals = sums.over_processes(run.accelerator)
    parts_per_step = run.accelerator.num_processes * run.config.train.accumulation_steps
    require_finite(totals, progress.step - progress.position, parts_per_step, run.folder / "checkpoints")
    return totals


def numbers_so_far(run: Run, progress: Progress, sums: EpochSums, clock: Clock) -> dict[str, Any]:
    """The epoch's means, learning rate and speed so far."""
    totals = finite_totals(run, progress, sums)
    last_step = run.trainer.schedule_step(progress.epoch, progress.position - 1)
    return epoch_numbers(totals, run.config.loss) | {
        "learning_rate": run.trainer.learning_rate(last_step),
        "images_per_second": clock.steps_per_second(progress.position) * run.config.train.batch_size,
    }


def validate_epoch(run: Run, validation: ImageDataset, progress: Progress) -> Progress:
    """Evaluate the held-out persons and keep the model if it is the best so far; all processes take part."""
    run.watchdog.mark("validation")
    model = run.trainer.evaluated_model()
    protocol, seed = validation_protocol(run.data, validation), run.config.train.seed
    numbers = score_validation(model, validation, run.trainer.data.images, run.config.score, protocol, seed)
    validated = progress.validated(numbers)
    if validated.best_epoch == progress.epoch:
        keep_model(run, model)
    return validated


def keep_model(run: Run, model: ReIDModel) -> None:
    """Save a model as the run's; process 0 writes."""
    if run.accelerator.is_main_process:
        save_model(model, run.folder / "model")


def checkpoint(run: Run, progress: Progress) -> None:
    """Save all that a resumed run needs; every process calls it, process 0 writes."""
    run.watchdog.mark("checkpoint")
    keep, writes = run.config.run.keep_checkpoints, run.accelerator.is_main_process
    progress = replace(progress, logged_lines=run.tracking.lines)
    save_checkpoint(run.folder / "checkpoints", run.trainer.state, progress, run.identity, keep=keep, writes=writes)


def leave(run: Run) -> None:
    """After a stop request: print how to continue, and exit with a code that tells schedulers to restart the run."""
    run.accelerator.wait_for_everyone()
    run.tracking.close()
    if run.accelerator.is_main_process:
        write_text(run.folder / STOPPED_FILE, "asked to stop; resume with --run.resume auto\n")
    by = run.stop.signal_name or "another process"
    logger.warning(f"stopped by {by}; to resume, repeat the command with --run.dir {run.folder} --run.resume auto")
    sys.exit(EXIT_STOPPED)


if __name__ == "__main__":
    run_script(SETTINGS)
