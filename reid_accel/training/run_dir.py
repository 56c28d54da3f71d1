"""The run folder: choosing it, and saving the model in it."""

import itertools
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator
from safetensors import SafetensorError

from reid_accel.config.schema import RunConfig
from reid_accel.distributed.collectives import Group
from reid_accel.errors import InputError, sentence_of
from reid_accel.files import remove_leftovers, replacing_folder
from reid_accel.models.reid import ReIDModel
from reid_accel.training.run_lock import RunInUseError, RunLock, lock_run
from reid_accel.training.run_paths import (
    CLEARED,
    RUNS,
    check_only_a_run,
    check_run_folder,
    holds_a_run,
    run_name_of,
    run_of_checkpoint,
)


def choose_run_folder(config: RunConfig, accelerator: Accelerator, held: ExitStack | None = None) -> Path:
    """The run's folder, the same on every process; every process calls it.

    By default a new run takes the first free one of runs/NAME, runs/NAME-2, ..., and a resumed run the last existing
    one. held: no other process can take the folder until this is closed (without it, only until the function returns).
    Raises InputError when `dir` contains another run, or another process writes to the folder.
    """
    lock, number = None, 0
    if accelerator.is_main_process:
        lock, number = _claim(config)
        remove_leftovers(lock.path.parent)
    if held is not None and lock is not None:
        held.callback(lock.release)
    # process 0 looks and broadcasts the number: the others could see a folder that it just created
    number = Group.of().broadcast_int(number)
    if held is None and lock is not None:
        lock.release()
    return _folder(config, number)


def _folder(config: RunConfig, number: int) -> Path:
    if config.dir is not None:
        return Path(config.dir)
    return RUNS / (config.name if number <= 1 else f"{config.name}-{number}")


def _claim(config: RunConfig) -> tuple[RunLock, int]:
    """Make and lock the folder; clear it if it is to be overwritten. Returns its number, too."""
    for number in itertools.count(_first_number(config)):
        folder = _folder(config, number)
        is_new_by_name = config.dir is None and config.resume is None and not config.overwrite
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = lock_run(folder)
        except OSError as error:
            raise InputError(f"the run folder {folder} cannot be used: {sentence_of(error)}") from error
        except RunInUseError:
            if is_new_by_name:
                continue
            raise
        if is_new_by_name and holds_a_run(folder):  # of a process that was faster
            lock.release()
            continue
        try:
            check_run_folder(replace(config, dir=str(folder)))
            if config.overwrite and config.resume is None:
                clear(folder)
        except BaseException:
            lock.release()
            raise
        return lock, number
    raise AssertionError


def _first_number(config: RunConfig) -> int:
    """Of the first free folder, or of the run of this name that is resumed or overwritten: the last, or the named."""
    if config.dir is not None:
        return 1
    own, free = [], 1
    while holds_a_run(folder := _folder(config, free)):
        if run_name_of(folder) in (config.name, None):  # NAME-2 may be another run's name
            own.append(free)
        if config.resume is not None and folder.resolve() == run_of_checkpoint(config.resume):
            return free
        free += 1
    return free if config.resume is None and not config.overwrite else (own or [free])[-1]


def clear(folder: Path) -> None:
    """Remove the files of a run, and nothing else. Raises InputError, with nothing removed, when others are there."""
    check_only_a_run(folder)
    for name in CLEARED:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def save_model(model: ReIDModel, folder: Path) -> None:
    """Write config.json and model.safetensors, replacing an existing model."""
    try:
        with replacing_folder(folder) as temporary:
            model.save_pretrained(temporary)
    except (OSError, SafetensorError) as error:
        raise InputError(f"the model could not be saved to {folder}: {error}; the earlier one is intact") from error
