"""`reid-accel doctor`: from settings to tables in the terminal, doctor.html and doctor.json."""

import itertools
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from reid_accel.config.doctor import DoctorConfig
from reid_accel.config.parse import parse
from reid_accel.errors import InputError
from reid_accel.reporting.console import sentences_for_users
from reid_accel.training.run_paths import RUNS

logger = logging.getLogger(__name__)

PAGE, RESULTS = "doctor.html", "doctor.json"
TABLES = (".csv", ".tsv")


def main(arguments: Sequence[str]) -> int:
    """Examine a data set; returns the exit code."""
    with sentences_for_users():
        config = parse(DoctorConfig, arguments)
        check(config)
        return run(config)


def check(config: DoctorConfig) -> None:
    """Raise InputError when a path can't be what is meant. Data sets that are drawn are not checked."""
    from reid_accel.data.reading import check_dataset
    from reid_accel.models.model_folder import check_model_name

    if not config.data.name.startswith("synthetic"):
        check_dataset(config.data)
    if config.model is not None:
        check_model_name(config.model)
    if config.dir is not None and Path(config.dir).exists() and not Path(config.dir).is_dir():
        raise InputError(f"--dir {config.dir} is a file: name a folder")
    if config.fix is not None and Path(config.fix).suffix.lower() not in TABLES:
        raise InputError(f"--fix {config.fix} must end in {' or '.join(TABLES)}, the tables that are written")
    if config.fix is not None and (Path(config.fix).exists() or not Path(config.fix).absolute().parent.is_dir()):
        raise InputError(f"--fix {config.fix} must be a new file in an existing folder: choose another name")


def run(config: DoctorConfig) -> int:
    """Examine the set that the settings name, print, and write what was found."""
    from reid_accel.data.cache_dir import cache_folder, writable_cache
    from reid_accel.data.sets import list_dataset
    from reid_accel.doctor.examine import examine
    from reid_accel.doctor.findings import Finding
    from reid_accel.doctor.outcome import as_json, exit_code
    from reid_accel.doctor.page import write_page
    from reid_accel.doctor.terminal_table import print_diagnosis
    from reid_accel.files import write_json
    from reid_accel.reporting.console import image_bar, open_console

    console = open_console(True, config.log_level)
    listing = list_dataset(config.data, cache_dir=writable_cache(cache_folder(config.data.cache_dir)))
    bar = partial(image_bar, console)
    embedded: list[Finding] = []
    if config.model is not None:
        from reid_accel.doctor.embeddings import embedded_findings

        embedded = embedded_findings(config, listing, bar)
    diagnosis = examine(listing, config.data.name, bar, embedded)
    print_diagnosis(console, diagnosis)
    folder = results_folder(config.dir)
    title = config.data.title or config.data.name
    write_page(folder / PAGE, diagnosis, title)
    write_json(folder / RESULTS, as_json(diagnosis, config))
    if config.fix is not None:
        from reid_accel.doctor.fix import write_fixed

        logger.info(write_fixed(Path(config.fix), diagnosis, listing))
    logger.info(f"pictures and all images by name: {folder / PAGE}, {folder / RESULTS}")
    return exit_code(diagnosis)


def results_folder(wished: str | None) -> Path:
    """The wished folder, or the first free one of runs/doctor, runs/doctor-2, ...; it is made."""
    if wished is not None:
        Path(wished).mkdir(parents=True, exist_ok=True)
        return Path(wished)
    RUNS.mkdir(exist_ok=True)
    for number in itertools.count(1):
        folder = RUNS / ("doctor" if number == 1 else f"doctor-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError
