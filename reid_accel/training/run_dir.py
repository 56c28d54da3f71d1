"""The run folder: choosing it, and saving the model in it."""

import shutil
from pathlib import Path

from accelerate import Accelerator

from reid_accel.config.schema import RunConfig
from reid_accel.distributed.collectives import Group
from reid_accel.errors import InputError
from reid_accel.files import remove_leftovers, replacing_folder
from reid_accel.models.reid import ReIDModel
from reid_accel.training.run_paths import MARKS_OF_A_RUN, RUNS, check_run_folder, holds_a_run


def choose_run_folder(config: RunConfig, accelerator: Accelerator) -> Path:
    """The run's folder, the same on every process; every process calls it.

    By default a new run takes the first free one of runs/NAME, runs/NAME-2, ..., and a resumed run the last existing
    one. Raises InputError when `dir` contains another run.
    """
    if config.dir is not None:
        folder = Path(config.dir)
        if accelerator.is_main_process:
            _claim(folder, config)
            remove_leftovers(folder)
        accelerator.wait_for_everyone()
        return folder
    # process 0 looks and broadcasts the number: the others could see a folder that it just created
    number = Group.of().broadcast_int(_number(config) if accelerator.is_main_process else 0)
    folder = _numbered(config.name, number)
    folder.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        remove_leftovers(folder)
    return folder


def _numbered(name: str, number: int) -> Path:
    return RUNS / (name if number <= 1 else f"{name}-{number}")


def _number(config: RunConfig) -> int:
    free = 1
    while holds_a_run(_numbered(config.name, free)):
        free += 1
    if config.resume is None and not config.overwrite:
        return free
    newest = max(1, free - 1)
    if config.overwrite:
        _clear(_numbered(config.name, newest))
    return newest


def _claim(folder: Path, config: RunConfig) -> None:
    check_run_folder(config)
    if config.resume is None and config.overwrite:
        _clear(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the run folder {folder} cannot be made: {error}; choose another --run.dir") from error


def _clear(folder: Path) -> None:
    """Remove the files of a run, and nothing else."""
    for mark in MARKS_OF_A_RUN:
        path = folder / mark
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def save_model(model: ReIDModel, folder: Path) -> None:
    """Write config.json and model.safetensors, replacing an existing model."""
    try:
        with replacing_folder(folder) as temporary:
            model.save_pretrained(temporary)
    except OSError as error:
        raise InputError(f"the model could not be saved to {folder}: {error}; the earlier one is intact") from error
