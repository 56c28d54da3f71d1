"""Checks of run folders, without torch so that they can run before it is imported."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from reid_accel.config.environment import number
from reid_accel.config.schema import RunConfig
from reid_accel.errors import InputError
from reid_accel.files import read_text
from reid_accel.models.model_folder import OWN_FILES

RUNS = Path("runs")
CONFIG_FILE = "config.yaml"
CLEARED = (
    "checkpoints", "model", "metrics.jsonl", "report.json", "report.html", "reid_test.txt", "classification_test.csv",
    "junk_scores.tsv", CONFIG_FILE,
)  # fmt: skip
"""What training writes, and --run.overwrite deletes; the settings last, since they tell that the rest is a run's."""
MARKS_OF_A_RUN = (*CLEARED, "distances.tsv", "domains.json")
"""What training, scoring and predicting write."""
SECTIONS = {"data", "model", "run", "train"}
PROOFS = {CONFIG_FILE: SECTIONS, "report.json": {"format", "retrieval"}, "metrics.jsonl": {"step"}}
"""Names in files that tell that they are of a run."""
_CHECKPOINT = re.compile(r"(undone-)?step-\d+(-\d+)?|\.step-\d+\..*\.(part|old)")


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
    if config.dir is None or config.resume == "auto" or not holds_a_run(Path(config.dir)):
        return
    if config.resume is not None:
        if run_of_checkpoint(config.resume) != Path(config.dir).resolve():
            raise InputError(
                f"{config.dir} already holds another run than the checkpoint {config.resume}: choose another "
                f"--run.dir, or copy the checkpoint to {config.dir}/checkpoints"
            )
        return
    if config.overwrite:
        check_only_a_run(Path(config.dir))
        return
    raise InputError(
        f"{config.dir} already holds a run: resume it with --run.resume auto, delete its results with --run.overwrite, "
        "or choose another --run.dir"
    )


def check_only_a_run(folder: Path) -> None:
    """Raise InputError unless everything that --run.overwrite would delete in a folder is proven to be a run's."""
    present = [folder / name for name in CLEARED if (folder / name).exists()]
    foreign = next((entry for path in present for entry in [_foreign(path)] if entry is not None), None)
    if foreign is None and present and run_name_of(folder) is None:
        foreign = folder
    if foreign is not None:
        raise InputError(
            f"{foreign} is not known to be of a run, so --run.overwrite deletes nothing: move it away, or choose "
            "another --run.dir"
        )


def run_of_checkpoint(checkpoint: str) -> Path:
    """The folder of the run that a checkpoint is of."""
    return Path(checkpoint).resolve().parent.parent


def run_name_of(folder: Path) -> str | None:
    """The name of the run that a folder contains, from its settings; None without a run's settings."""
    settings = _mapping(folder / CONFIG_FILE)
    if not all(isinstance(settings.get(section), dict) for section in SECTIONS):
        return None
    return str(settings["run"].get("name"))


def _foreign(path: Path) -> Path | None:
    """A file or folder at a place where a run has its results that a run can't have written, else None."""
    if path.is_symlink():  # nothing but the link is deleted
        return None
    if path.name == "checkpoints":
        return _first(path, lambda entry: _CHECKPOINT.fullmatch(entry.name) is not None)
    if path.name == "model":
        architecture = _mapping(path / "config.json").get("architecture")
        is_ours = isinstance(architecture, dict) and "model" in architecture
        return _first(path, lambda entry: is_ours and entry.name in OWN_FILES and entry.is_file())
    if path.name in PROOFS:
        return path if not PROOFS[path.name] <= set(_mapping(path)) else None
    beside = ("report.json", "checkpoints")  # a page or a table alone could be anybody's
    return path if path.is_dir() or not any((path.parent / name).exists() for name in beside) else None


def _first(folder: Path, is_of_a_run: Callable[[Path], bool]) -> Path | None:
    if not folder.is_dir():
        return folder
    return next((entry for entry in sorted(folder.iterdir()) if not is_of_a_run(entry)), None)


def _mapping(path: Path) -> Mapping[str, Any]:
    """The content of a JSON or YAML file, of the first line of a log; empty if it is something else."""
    try:
        text = read_text(path)
        text = text.partition("\n")[0] if path.suffix == ".jsonl" else text
        content = yaml.safe_load(text) if path.name == CONFIG_FILE else json.loads(text)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
