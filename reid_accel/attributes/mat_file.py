"""Reading MATLAB files in a process of its own: a damaged one can crash the libraries that read it, or fill memory.

The parent starts `mat_reader`, which prints the content as JSON. Where the system offers limits on memory and processor
time (Linux, in part macOS), they are set; the size of the content and the elapsed time are limited everywhere.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid_accel.attributes.mat_reader import LARGEST_BYTES, MEMORY_BYTES, SMALL, Limits, limit_resources
from reid_accel.errors import InputError, listed, shortened

__all__ = ["LARGEST_BYTES", "MEMORY_BYTES", "MatFile", "limit_resources", "read_mat", "read_mat_fields"]

SECONDS = 120.0
_READER = "reid_accel.attributes.mat_reader"
_START = f"import sys; sys.path[:] = sys.argv[3:]; from {_READER} import main; main(*sys.argv[1:3])"

Half = Mapping[str, list[Any]]


@dataclass(frozen=True)
class MatFile:
    """A MATLAB file that is expected to be the annotation of a data set.

    variables: those to read. remedy: what a user can do where it can't be used.
    """

    path: Path
    title: str
    variables: tuple[str, ...]
    remedy: str = "copy or download it again"
    limits: Limits = SMALL

    def refusal(self, problem: object) -> InputError:
        """The error for a file that isn't the annotation."""
        remedy = self.remedy[0].upper() + self.remedy[1:]
        return InputError(f"{self.path} cannot be read as {self.title}'s annotation: {problem}. {remedy}")


def read_mat(file: MatFile) -> dict[str, Any]:
    """The variables of a MATLAB file, of version 7.3 (HDF5) too: structures as dictionaries, texts, arrays of numbers
    without dimensions of size 1, and everything else (cells, arrays of structures or texts) as lists.

    Variables that the file lacks are missing. Raises InputError when the file can't be read.
    """
    output, end = _run_reader(file)
    try:
        answer = json.loads(output)
    except ValueError:
        answer = {"error": f"its reader ended with {end}, as it does for damaged files"}
    if "unsupported" in answer:
        raise InputError(f"{file.path} cannot be read: {answer['unsupported']}")
    if "error" in answer:
        raise file.refusal(answer["error"])
    return {name: _decoded(value) for name, value in answer["variables"].items()}


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "numbers" in value:
        raw = base64.b64decode(value["numbers"])
        return np.frombuffer(raw, np.dtype(value["type"])).reshape(value["shape"])
    return {name: _decoded(each) for name, each in value["fields"].items()}


def read_mat_fields(file: MatFile) -> dict[str, Half]:
    """The fields of each half of a person-wise annotation: {"train": {field: one value per person}, "test": ...}.

    Raises InputError when the file isn't a readable annotation.
    """
    variable = file.variables[0]
    content = read_mat(file)
    try:
        if variable not in content:
            raise ValueError(f"it has no variable {variable!r}")
        return _halves(variable, content[variable])
    except (ValueError, TypeError, OverflowError) as error:
        raise file.refusal(shortened(error, 200)) from error


def _halves(variable: str, record: Any) -> dict[str, Half]:
    halves: dict[str, Half] = {}
    for half, members in _members(variable, record).items():
        if half in ("train", "test"):
            halves[half] = {name: _plain(name, values) for name, values in _members(variable, members).items()}
            if len({len(values) for values in halves[half].values()}) > 1:
                raise ValueError(f"the fields of {half!r} have different numbers of people")
    missing = sorted({"train", "test"} - set(halves))
    if missing:
        raise ValueError(f"it has no {listed(missing)}")
    return halves


def _members(variable: str, record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError(f"{variable} must be a structure of two structures, train and test")
    return record


def _plain(name: str, values: Any) -> list[Any]:
    """Whole numbers or short texts."""
    if isinstance(values, np.ndarray):
        values = np.atleast_1d(values)
        if values.ndim != 1:
            raise ValueError(f"the field {name} has shape {values.shape}, not one value per person")
        values = values.tolist()
    plain = values if isinstance(values, list) else [values]
    plain = [value.item() if isinstance(value, np.ndarray) and value.size == 1 else value for value in plain]
    for value in plain:
        short_text = isinstance(value, str) and len(value) < 64
        if not short_text and not (isinstance(value, int | float) and value == int(value)):
            raise ValueError(f"the field {name} has the value {shortened(repr(value))}")
    return [value if isinstance(value, str) else int(value) for value in plain]


def _run_reader(file: MatFile) -> tuple[bytes, str]:
    """Output and end of a new process, which imports what this one would."""
    request = json.dumps({"variables": file.variables, **asdict(file.limits)})
    command = [sys.executable, "-c", _START, str(file.path), request, *sys.path]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return json.dumps({"error": f"reading it takes longer than {SECONDS:.0f} seconds"}).encode(), "a timeout"
    except OSError as error:
        raise InputError(f"{file.path}: the process that reads it cannot be started ({error})") from error
    last_line = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return done.stdout, f"code {done.returncode}" + (f" ({shortened(last_line, 200)})" if last_line else "")


# --- what a variable must be -------------------------------------------------------------------------------


def as_texts(value: Any, what: str) -> list[str]:
    """A cell of texts as a list. Raises ValueError for anything else."""
    parts = value if isinstance(value, list) else [value]
    texts = [_text(part) for part in parts]
    wrong = [part for part, text in zip(parts, texts, strict=True) if text is None]
    if wrong:
        raise ValueError(f"{what} must be texts, but one is {shortened(repr(wrong[0]))}")
    return [text for text in texts if text is not None]


def _text(value: Any) -> str | None:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else None


def as_rows(value: Any, what: str, columns: int) -> np.ndarray:
    """A matrix of whole numbers with so many columns. Raises ValueError for anything else."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iub":
        raise ValueError(f"{what} must be a matrix of whole numbers")
    if value.ndim > 2 or value.size % columns or (value.ndim == 2 and value.shape[1] != columns):
        raise ValueError(f"{what} must have {columns} columns, but its shape is {value.shape}")
    return value.reshape(-1, columns)


def as_positions(value: Any, what: str, number: int) -> np.ndarray:
    """MATLAB's positions, which count from 1, among `number` things, from 0. Raises ValueError for anything else."""
    if isinstance(value, list | np.ndarray) and not len(np.atleast_1d(np.asarray(value))):
        return np.zeros(0, np.int64)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iub":
        raise ValueError(f"{what} must be positions, counted from 1")
    positions = value.ravel().astype(np.int64)
    wrong = positions[(positions < 1) | (positions > number)]
    if len(wrong):
        raise ValueError(f"{what} has the position {wrong[0]}, but there are {number:,}")
    return positions - 1


def member(record: Any, what: str, names: Sequence[str], place: int | None = None) -> Any:
    """A field of a structure by one of its names, else by its place. Raises ValueError if it has none."""
    if not isinstance(record, dict):
        raise ValueError(f"{what} must be a structure")
    for name in names:
        if name in record:
            return record[name]
    if place is not None and place < len(record):
        return list(record.values())[place]
    raise ValueError(f"{what} lacks the field {' or '.join(names)}; it has {listed(record, 8) or 'none'}")
