"""Reading the tensors of a checkpoint file without running anything in it: .pth, .pt, .pth.tar and .safetensors.

PyTorch's files are pickles. torch's restricted unpickler builds tensors, containers, numbers and strings only; what it
doesn't know is refused, except for a few harmless values that trainers store beside the weights, which are dropped.
"""

import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from reid_accel.errors import InputError, explaining_os_errors, listed, shortened
from reid_accel.files import open_regular

_INSIDE = ("state_dict", "model_state_dict", "model", "teacher", "network", "net")  # where trainers put the weights
_DEPTH = 3  # of entries inside each other: an entry may hold itself
_DROPPED = (
    "argparse.Namespace",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
    "pathlib.PosixPath",
)
_GLOBAL = re.compile(r"GLOBAL ([\w.]*\w) ")  # of the unpickler's message

# what torch and its unpickler raise for bytes that make no sense
_OF_DAMAGED_FILES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file by name, without a prefix that all share; `inside`: the entry that held them."""

    tensors: Mapping[str, Tensor]
    inside: str = ""


class _Dropped:
    """Stands for a value beside the weights, such as a score or a trainer's settings; drops whatever it is given."""

    def __new__(cls, *_values: object) -> "_Dropped":
        return super().__new__(cls)

    def __init__(self, *_values: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


def _dropped(name: str) -> type[_Dropped]:
    """A class under another one's name, which is how the unpickler finds it."""
    module, _, last = name.rpartition(".")
    return type(last, (_Dropped,), {"__module__": module})


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors in a checkpoint, mapped from the disk where the format allows it.

    Raises InputError, one sentence, for what isn't a file, a checkpoint, or whole, and for one that wants to run code.
    """
    if re.match(r"\w\w+:/", str(path)):
        raise InputError(f"{path} is an address: download the file first, and give its path")
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the file with the weights that is in it")
    with explaining_os_errors(), open_regular(path) as file:
        start = file.read(64)
    if not start:
        raise InputError(f"{path} is empty: download it again")
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return _without_prefix(path, _safetensors(path))
    tensors, inside = _state_dict(_unpickled(path, start), path)
    return _without_prefix(path, tensors, inside)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}): download it again") from error


def _unpickled(path: Path, start: bytes) -> Any:
    dropped: list[Any] = [_dropped(name) for name in _DROPPED]
    try:
        with torch.serialization.safe_globals(dropped), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the encoding is used although torch says that it isn't
            return torch.load(
                path, map_location="cpu", weights_only=True, mmap=start.startswith(b"PK"), encoding="latin1"
            )
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error), start) from error
    except _OF_DAMAGED_FILES as error:
        if "TorchScript" in str(error):
            raise InputError(
                f"{path} is a TorchScript program, which cannot be read without running it: save the network's "
                "state_dict() instead"
            ) from error
        raise _damaged(path, start) from error


def _refusal(path: Path, message: str, start: bytes) -> InputError:
    names = _GLOBAL.findall(message)
    if not names and "unrecognized function" not in message:
        return _damaged(path, start)
    what = f"calls {names[0]}" if names else "would run code"
    return InputError(
        f"{path} holds more than weights: loading it {what}, which is not done. If you trust its author, load it where "
        "it was made and save only the network's state_dict()"
    )


def _damaged(path: Path, start: bytes) -> InputError:
    if start.startswith((b"PK", b"\x80")):
        return InputError(f"{path} is damaged or incomplete: download or copy it again")
    return InputError(
        f"{path} is not a checkpoint: it is neither a safetensors file nor one of torch.save, but begins with "
        f"{shortened(repr(start[:16]), 40)}"
    )


def _state_dict(content: Any, path: Path, inside: str = "") -> tuple[dict[str, Tensor], str]:
    """The mapping of names to tensors in a checkpoint's content, and the path of entries to it."""
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path} holds no named tensors but a {type(content).__name__}: save the network's state_dict()"
        )
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if len(tensors) > 1:
        return tensors, inside
    for name in _INSIDE:
        if isinstance(content.get(name), Mapping) and inside.count(".") < _DEPTH:
            return _state_dict(content[name], path, f"{inside}.{name}".removeprefix("."))
    keys = listed(content) or "nothing"
    raise InputError(f"{path} holds no weights: its entries are {keys}, and weights are expected as a state_dict")


def _without_prefix(path: Path, tensors: dict[str, Tensor], inside: str = "") -> Checkpoint:
    """Checked tensors, without the `module.` that data parallelism puts before all names."""
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    for name, value in tensors.items():
        _check(path, name, value)
    return Checkpoint(tensors, inside)


def _check(path: Path, name: str, value: Tensor) -> None:
    """A tensor must be dense and in memory: a few bytes can describe a view of any size."""
    if value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_complex():
        raise InputError(f"{path}: the tensor {name} is sparse, quantized or complex: store the weights as float32")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise InputError(f"{path}: the tensor {name} claims more numbers than the file holds: download it again")
