"""Reading `market_attribute.mat` in its own process: a damaged MATLAB file can crash scipy's reader or fill memory.

The parent starts this module, which prints the fields as JSON. Where the system offers limits on memory and processor
time (Linux, in part macOS), they are set; the size of the content and the elapsed time are limited everywhere.
"""

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from reid_accel.errors import InputError, listed, shortened
from reid_accel.files import read_bytes

VARIABLE = "market_attribute"
LARGEST_BYTES = 32 * 2**20  # of the file, and of its content; Market-1501's annotation has 20 KB
MEMORY_BYTES = 512 * 2**20
SECONDS = 120.0
PROCESSOR_SECONDS = 60

_HEADER_BYTES = 128
_COMPRESSED_ELEMENT = 15
_START = f"import sys; sys.path[:] = sys.argv[2:]; from {__name__} import main; main(sys.argv[1])"

Half = Mapping[str, list[Any]]


def read_mat_fields(path: Path) -> dict[str, Half]:
    """The fields of each half of the annotation: {"train": {field: one value per person}, "test": ...}.

    Raises InputError when the file isn't a readable annotation.
    """
    output, end = _run_reader(path)
    try:
        content = json.loads(output)
    except ValueError:
        content = {"error": f"its reader ended with {end}, as it does for damaged files"}
    if "error" in content:
        raise InputError(
            f"{path} cannot be read as Market-1501's annotation: {content['error']}. Copy or download it again, or "
            "remove it to train without attributes"
        )
    halves: dict[str, Half] = content["halves"]
    return halves


def _run_reader(path: Path) -> tuple[bytes, str]:
    """Output and end of a new process, which imports what this one would."""
    command = [sys.executable, "-c", _START, str(path), *sys.path]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return json.dumps({"error": f"reading it takes longer than {SECONDS:.0f} seconds"}).encode(), "a timeout"
    except OSError as error:
        raise InputError(f"{path}: the process that reads it cannot be started ({error})") from error
    last_line = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return done.stdout, f"code {done.returncode}" + (f" ({shortened(last_line, 200)})" if last_line else "")


def main(name: str) -> None:
    """The reader's process: print the fields, or what is wrong with the file, as JSON."""
    import scipy.io

    limit_resources()
    try:
        answer: dict[str, Any] = {"halves": _fields(Path(name))}
    except MemoryError:
        answer = {"error": f"reading it takes more than {MEMORY_BYTES >> 20} MB of memory"}
    except (
        scipy.io.matlab.MatReadError,
        *(NotImplementedError, OSError, EOFError, zlib.error, RecursionError),
        *(ValueError, TypeError, LookupError, ArithmeticError, AttributeError),  # by the position of the wrong byte
    ) as error:
        answer = {"error": shortened(error, 200)}
    print(json.dumps(answer), flush=True)


def limit_resources() -> None:
    """Limit this process's memory and processor time where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS))
    with suppress(ValueError, OSError):  # the address space in use varies with the libraries; macOS has no such file
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _fields(path: Path) -> dict[str, dict[str, list[Any]]]:
    import numpy as np
    import scipy.io

    _check_size(path)
    content = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=True, variable_names=[VARIABLE])
    if VARIABLE not in content:
        raise ValueError(f"it has no variable {VARIABLE!r}")
    halves: dict[str, dict[str, list[Any]]] = {}
    for half, record in _members(content[VARIABLE]).items():
        if half in ("train", "test"):
            members = {name: np.atleast_1d(values) for name, values in _members(record).items()}
            halves[half] = {name: _plain(name, values) for name, values in members.items()}
            if len({len(values) for values in halves[half].values()}) > 1:
                raise ValueError(f"the fields of {half!r} have different numbers of people")
    missing = sorted({"train", "test"} - set(halves))
    if missing:
        raise ValueError(f"it has no {listed(missing)}")
    return halves


def _members(record: Any) -> dict[str, Any]:
    """The fields of a MATLAB structure, which scipy reads as an array with one record."""
    if getattr(record, "size", 0) != 1 or not record.dtype.names:
        raise ValueError(f"{VARIABLE} must be a structure of two structures, train and test")
    return dict(zip(record.dtype.names, record.item(), strict=True))


def _plain(name: str, values: Any) -> list[Any]:
    """Whole numbers or short texts, as JSON has them."""
    if values.ndim != 1:
        raise ValueError(f"the field {name} has shape {values.shape}, not one value per person")
    plain = values.tolist()
    for value in plain:
        short_text = isinstance(value, str) and len(value) < 64
        if not short_text and not (isinstance(value, int | float) and value == int(value)):
            raise ValueError(f"the field {name} has the value {shortened(repr(value))}")
    return [value if isinstance(value, str) else int(value) for value in plain]


def _check_size(path: Path) -> None:
    """Raise ValueError if the file or its decompressed content is too large; other faults are for scipy to find."""
    if path.stat().st_size > LARGEST_BYTES:
        raise ValueError(f"it has more than {LARGEST_BYTES >> 20} MB")
    content = read_bytes(path)
    order: Literal["little", "big"] = "little" if content[126:128] == b"IM" else "big"
    start, total = _HEADER_BYTES, 0
    while start + 8 <= len(content) and total <= LARGEST_BYTES:
        kind, size = (int.from_bytes(content[at : at + 4], order) for at in (start, start + 4))
        element = content[start + 8 : start + 8 + size]
        if kind == _COMPRESSED_ELEMENT:
            total += len(zlib.decompressobj().decompress(element, LARGEST_BYTES + 1))
        start += 8 + size
    if total > LARGEST_BYTES:
        raise ValueError(f"its content has more than {LARGEST_BYTES >> 20} MB")
