"""Logging during a run: always to `metrics.jsonl`, on request also to Accelerate's trackers."""

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, filter_trackers, get_available_trackers

from reid_accel.errors import InputError
from reid_accel.files import open_regular, regular_only, shown, write_text
from reid_accel.reporting.schema import Report

METRICS_FILE = "metrics.jsonl"
RECOGNITION = ("mA", "instance_accuracy", "instance_precision", "instance_recall", "instance_f1")
PROJECT = "reid_accel"
PACKAGES = {"comet_ml": "comet-ml"}  # trackers whose package is spelled differently
NAME_ARGUMENTS = {
    "wandb": "name",
    "trackio": "name",
    "mlflow": "run_name",
    "clearml": "task_name",
    "dvclive": "exp_name",
    "swanlab": "experiment_name",
}
"""How a tracker is told the run's name when it starts; tensorboard shows the folder's."""


class Tracking:
    """The log of one run: one line of JSON per call, and the same numbers to further trackers.

    Every process creates one and makes the same calls; only the main process writes. A resumed run keeps the first
    `resume_lines` lines up to `resume_step` and drops the others, since those steps are repeated.
    """

    def __init__(
        self,
        folder: Path,
        accelerator: Accelerator,
        trackers: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        *,
        resume_step: int = 0,
        resume_lines: int = 0,
    ) -> None:
        check_trackers(trackers)
        self.path = folder / METRICS_FILE
        self._accelerator = accelerator
        self.lines = self._keep(resume_lines, resume_step)
        if trackers:
            # the run's folder is chosen after Accelerate has started
            accelerator.project_configuration.set_directories(str(folder))
            _start(accelerator, [name for name in trackers if _needs_folder(name)], config or {}, folder.name)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Log `values` at `step`: nested to the file, with dotted names to the trackers.

        Values that are not finite become null, since JSON can't represent them.
        """
        line = {"step": step} | {name: _finite(value) for name, value in values.items()}
        if self._accelerator.is_main_process:
            with open(self.path, "a", encoding="utf-8", newline="\n", opener=regular_only) as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
            self.lines += 1
        numbers = {name: value for name, value in flat(line) if isinstance(value, int | float)}
        self._accelerator.log(numbers, step=step)

    def log_final(self, step: int, report: Report | None) -> None:
        """Log the final scores to the trackers only; every process calls it, process 0 with the report."""
        if report is not None:
            self._accelerator.log(final_numbers(report), step=step)

    def _keep(self, count: int, step: int) -> int:
        """Keep the first `count` lines up to `step`, without incomplete ones; returns the number of lines kept."""
        if not self._accelerator.is_main_process or not self.path.exists():
            return 0
        with open_regular(self.path) as file:
            lines = file.read().decode(errors="replace").split("\n")[:-1][:count]
        lines = [line for line in lines if _is_of_step_until(line, step)]
        write_text(self.path, "".join(f"{line}\n" for line in lines))
        return len(lines)

    def close(self) -> None:
        """Let the trackers finish."""
        self._accelerator.end_training()


def start_trackers(accelerator: Accelerator, names: Sequence[str], config: Mapping[str, Any], run_name: str) -> None:
    """Start the trackers that need no folder, before the run has one. Raises InputError when one can't be started."""
    _start(accelerator, [name for name in names if not _needs_folder(name)], config, run_name)


def _needs_folder(name: str) -> bool:
    return bool(LOGGER_TYPE_TO_CLASS[name].requires_logging_directory)


def _start(accelerator: Accelerator, names: Sequence[str], config: Mapping[str, Any], run_name: str) -> None:
    if not names:
        return
    before, accelerator.trackers = accelerator.trackers, []
    accelerator.log_with = filter_trackers(list(names), accelerator.logging_dir)
    arguments = {name: {NAME_ARGUMENTS[name]: run_name} for name in names if name in NAME_ARGUMENTS}
    settings = dict(flat(config))
    texts = {name: shown(value) for name, value in settings.items() if isinstance(value, str)}
    try:
        accelerator.init_trackers(PROJECT, config=settings | texts, init_kwargs=arguments)
        for tracker in accelerator.trackers if accelerator.is_main_process else ():
            _name_afterwards(tracker, run_name)
    except BaseException as error:
        package = type(error).__module__.partition(".")[0]
        if package not in names and not isinstance(error, OSError | ValueError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"run.trackers: {' or '.join(names)} cannot be started ({reason}): log in to it first, choose its offline "
            "mode, or omit it"
        ) from error
    accelerator.trackers = before + accelerator.trackers


def _name_afterwards(tracker: Any, run_name: str) -> None:
    """Tell the run's name to the trackers that take it only then."""
    if tracker.name == "comet_ml":
        tracker.tracker.set_name(run_name)
    elif tracker.name == "aim":
        tracker.tracker.name = run_name


def final_numbers(report: Report) -> dict[str, float]:
    """A report's scores with names that every tracker can store: `final/market1501/rerank/mAP`."""
    numbers: dict[str, float] = {}
    for entry in report["retrieval"]:
        parts = ("final", entry["protocol"], entry["rerank"] and "rerank", entry["query_expansion"] and "expansion")
        prefix = "/".join(part for part in parts if part)
        scores = {"mAP": entry["mAP"], "mINP": entry["mINP"], **{f"rank-{k}": v for k, v in entry["cmc"].items()}}
        numbers |= {f"{prefix}/{name}": value for name, value in scores.items()}
    if report["attributes"] is not None:
        for convention, given in report["attributes"]["conventions"].items():
            found: Mapping[str, Any] = given
            prefix = f"final/attributes/{re.sub('[^-_./ 0-9A-Za-z]', '_', convention)}"
            numbers |= {f"{prefix}/{name}": found[name] for name in ("accuracy", *RECOGNITION) if name in found}
    return {name: value for name, value in numbers.items() if isinstance(value, int | float)}


def check_trackers(names: Sequence[str]) -> None:
    """Raise InputError for a tracker that is unknown to Accelerate or not installed."""
    known = sorted(LOGGER_TYPE_TO_CLASS)
    installed = {str(tracker) for tracker in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            close = difflib.get_close_matches(name, known, n=1)
            suggestion = f"; did you mean {close[0]}?" if close else ""
            raise InputError(f"run.trackers must be among {', '.join(known)}, got {name!r}{suggestion}")
        if name not in installed:
            raise InputError(f"run.trackers: {name} is not installed; run `pip install {PACKAGES.get(name, name)}`")


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    """Nested settings as dotted names with values that every tracker can store.

    >>> list(flat({"data": {"name": "course", "size": (128, 64)}, "seed": 1}))
    [('data.name', 'course'), ('data.size', '(128, 64)'), ('seed', 1)]
    """
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str | int | float | bool) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_of_step_until(line: str, step: int) -> bool:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return False
    return isinstance(entry, dict) and isinstance(entry.get("step"), int) and entry["step"] <= step
