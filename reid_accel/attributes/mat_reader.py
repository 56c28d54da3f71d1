"""The process that reads a MATLAB file for `mat_file` and prints its content as JSON."""

import base64
import json
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from reid_accel.errors import first_line, shortened
from reid_accel.files import open_regular, read_bytes

if TYPE_CHECKING:
    import h5py

LARGEST_BYTES = 32 * 2**20  # of the file, and of its content; Market-1501's annotation has 20 KB
MEMORY_BYTES = 512 * 2**20
PROCESSOR_SECONDS = 60

_HEADER_BYTES = 128
_COMPRESSED_ELEMENT = 15
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HDF5_OFFSETS = (0, 512)  # MATLAB puts its own header of 512 bytes before it


@dataclass(frozen=True)
class Limits:
    """The largest file, with its content decompressed, and the memory that reading it may take."""

    largest_bytes: int = LARGEST_BYTES
    memory_bytes: int = MEMORY_BYTES


SMALL = Limits()


def main(name: str, request: str) -> None:
    """The process: print the variables, or what is wrong with the file, as JSON."""
    import scipy.io

    wanted = json.loads(request)
    variables, limits = wanted.pop("variables"), Limits(**wanted)
    limit_resources(limits.memory_bytes)
    hdf5 = _is_hdf5(Path(name))
    try:
        read = _read_hdf5 if hdf5 else _read_matlab
        content = read(Path(name), variables, limits.largest_bytes)
        answer: dict[str, Any] = {"variables": {name: _encoded(value) for name, value in content.items()}}
    except MemoryError:
        answer = {"error": f"reading it takes more than {limits.memory_bytes >> 20} MB of memory"}
    except ImportError as error:
        answer = {
            "unsupported": "it was saved by MATLAB as version 7.3 (HDF5), which needs the package h5py "
            f"({first_line(error)}): `pip install reid_accel[hdf5]`, or save it in MATLAB with -v7"
        }
    except (
        scipy.io.matlab.MatReadError,
        *(NotImplementedError, OSError, EOFError, zlib.error, RecursionError),
        *(ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError),  # by the wrong byte
    ) as error:
        answer = {"error": shortened(error, 200)}
    print(json.dumps(answer), flush=True)


def limit_resources(memory_bytes: int = MEMORY_BYTES) -> None:
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
        limit = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _encoded(value: Any) -> Any:
    """A value as JSON has it; numbers in the smallest type that holds them."""
    if isinstance(value, dict):
        return {"fields": {name: _encoded(each) for name, each in value.items()}}
    if isinstance(value, list):
        return [_encoded(each) for each in value]
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind == "f" and value.size and np.isfinite(value).all() and (value == np.trunc(value)).all():
        value = value.astype(np.int64) if abs(value).max() < 2**62 else value
    if value.dtype.kind in "iu" and value.size:
        value = value.astype(np.promote_types(np.min_scalar_type(value.min()), np.min_scalar_type(value.max())))
    raw = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode("ascii")
    return {"numbers": raw, "type": value.dtype.str, "shape": value.shape}


# --- version 5 ---------------------------------------------------------------------------------------------


def _read_matlab(path: Path, variables: Sequence[str], largest_bytes: int) -> dict[str, Any]:
    import scipy.io

    _check_size(path, largest_bytes)
    content = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=True, variable_names=list(variables))
    return {name: _of_scipy(content[name]) for name in variables if name in content}


def _of_scipy(value: Any) -> Any:
    """What scipy reads as plain values: a structure is an array with one record."""
    names = getattr(getattr(value, "dtype", None), "names", None)
    if names:
        records = np.atleast_1d(np.asarray(value))
        found = [
            {name: _of_scipy(part) for name, part in zip(names, record, strict=True)} for record in records.ravel()
        ]
        return found[0] if len(found) == 1 else found
    if isinstance(value, str):
        return str(value)
    if not isinstance(value, np.ndarray | np.generic | bool | int | float | complex):
        raise ValueError(f"it has a value of the type {type(value).__name__}")
    array = np.asarray(value)
    if array.dtype.kind in "OU":
        return [_of_scipy(each) for each in array.ravel().tolist()]
    return array


def _check_size(path: Path, largest_bytes: int) -> None:
    """Raise ValueError if the file or its decompressed content is too large; other faults are for scipy to find."""
    if path.stat().st_size > largest_bytes:
        raise ValueError(f"it has more than {largest_bytes >> 20} MB")
    content = read_bytes(path)
    order: Literal["little", "big"] = "little" if content[126:128] == b"IM" else "big"
    start, total = _HEADER_BYTES, 0
    while start + 8 <= len(content) and total <= largest_bytes:
        kind, size = (int.from_bytes(content[at : at + 4], order) for at in (start, start + 4))
        element = content[start + 8 : start + 8 + size]
        if kind == _COMPRESSED_ELEMENT:
            total += len(zlib.decompressobj().decompress(element, largest_bytes + 1))
        start += 8 + size
    if total > largest_bytes:
        raise ValueError(f"its content has more than {largest_bytes >> 20} MB")


# --- version 7.3 -------------------------------------------------------------------------------------------


def _is_hdf5(path: Path) -> bool:
    with suppress(OSError), open_regular(path) as file:  # what is wrong with the file is said when it is read
        start = file.read(_HDF5_OFFSETS[-1] + len(_HDF5_SIGNATURE))
        return any(start[offset:].startswith(_HDF5_SIGNATURE) for offset in _HDF5_OFFSETS)
    return False


def _read_hdf5(path: Path, variables: Sequence[str], largest_bytes: int) -> dict[str, Any]:
    import h5py

    if path.stat().st_size > largest_bytes:
        raise ValueError(f"it has more than {largest_bytes >> 20} MB")
    with h5py.File(path, "r") as file:
        reader = _Hdf5Reader(file, largest_bytes)
        return {name: reader.value(file[name]) for name in variables if name in file}


@dataclass
class _Hdf5Reader:
    """MATLAB's use of HDF5: arrays are transposed, cells hold references, and texts are numbers."""

    file: "h5py.File"
    bytes_left: int

    def value(self, item: Any) -> Any:
        """A group or a data set as a plain value."""
        import h5py

        if isinstance(item, h5py.Group):
            return self._structure(item)
        if not isinstance(item, h5py.Dataset):
            raise ValueError(f"it has an entry of the type {type(item).__name__}")
        kind = _attribute(item, "MATLAB_class")
        if _attribute(item, "MATLAB_empty"):
            return "" if kind == "char" else [] if kind == "cell" else np.zeros(0)
        self.bytes_left -= item.size * item.dtype.itemsize
        if self.bytes_left < 0:
            raise ValueError("its content is too large")
        if h5py.check_string_dtype(item.dtype) is not None:
            texts = np.atleast_1d(item.asstr()[()])
            return str(texts[0]) if item.shape == () else [str(text) for text in texts.ravel()]
        values = item[()].T if item.shape else item[()]
        if h5py.check_ref_dtype(item.dtype) is not None:
            return [self.value(self.file[reference]) for reference in np.atleast_1d(values).ravel()]
        if kind == "char" or (not kind and item.dtype == np.uint16):  # other writers than MATLAB name no class
            rows = ["".join(map(chr, row)) for row in np.atleast_2d(values).tolist()]
            return rows[0] if len(rows) == 1 else rows
        return np.squeeze(np.asarray(values))

    def _structure(self, group: "h5py.Group") -> Any:
        """A structure; an array of structures has a data set of references for each field."""
        import h5py

        order = [name.tobytes().decode() for name in np.atleast_1d(group.attrs.get("MATLAB_fields", []))]
        members = {name: group[name] for name in (order if set(order) == set(group) else group)}
        is_array = _attribute(group, "MATLAB_class") == "struct" and all(
            isinstance(each, h5py.Dataset)
            and h5py.check_ref_dtype(each.dtype) is not None
            and not _attribute(each, "MATLAB_class")
            for each in members.values()
        )
        columns = {name: self.value(each) for name, each in members.items()}
        if not is_array or not columns:
            return columns
        rows = zip(*columns.values(), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]


def _attribute(item: Any, name: str) -> str:
    """An attribute as text; empty if there is none."""
    value = item.attrs.get(name, "")
    return value.decode() if isinstance(value, bytes) else str(value) if value != 0 else ""
