"""Checks of run folders, without torch so that they can run before it is imported."""

from dataclasses import replace
from pathlib import Path

from reid_accel.config.environment import number
from reid_accel.config.schema import RunConfig
from reid_accel.errors import InputError

RUNS = Path("runs")
MARKS_OF_A_RUN = ("config.yaml", "metrics.jsonl", "checkpoints", "model", "report.json", "reid_test.txt")


def holds_a_run(folder: Path) -> bool:
    """Whether a folder contains a run."""
    return any((folder / mark).exists() for mark in MARKS_OF_A_RUN)


def resumed_after_restart(config: RunConfig) -> RunConfig:
    """The settings of a run; it resumes if a launcher has restarted its processes after a failure."""
    restarts = number("TORCHELASTIC_RESTART_COUNT", 0)
    if restarts == 0:
        return config
    return replace(config, resume=config.resume or "auto", overwrite=False)


def check_run_folder(config: RunConfig) -> None:
    """Raise InputError when the folder contains another run, or the checkpoint to resume from doesn't exist."""
    if config.resume not in (None, "auto") and not Path(config.resume).is_dir():
        raise InputError(f"there is no checkpoint {config.resume}; --run.resume auto finds the newest valid one")
    if config.dir is None or config.resume is not None or config.overwrite or not holds_a_run(Path(config.dir)):
        return
    raise InputError(
        f"{config.dir} already holds a run: resume it with --run.resume auto, delete its results with --run.overwrite, "
        "or choose another --run.dir"
    )
