"""OpenVINO: a graph is converted from its ONNX file, and read by OpenVINO's CPU plugin."""

import hashlib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from reid_accel.errors import InputError, first_line
from reid_accel.export.metadata import HASH_KEY, KEY, GraphInfo
from reid_accel.export.opened import Opened
from reid_accel.export.packages import package
from reid_accel.files import read_bytes, sha256

PRECISE = {"INFERENCE_PRECISION_HINT": "f32"}
"""Processors with AMX count in bfloat16 unless asked not to."""

NO_HASH = "0" * 64


def write(onnx_path: Path, info: GraphInfo, path: Path) -> None:
    """Convert a written ONNX file; `path` is the .xml, the weights lie beside it in a .bin."""
    openvino = package("openvino", "--to openvino")
    try:
        save(openvino.convert_model(str(onnx_path)), info, path)
    except RuntimeError as error:
        raise InputError(
            f"OpenVINO cannot write {path.name} ({_reason(error)}): free some space if the disk is full, or export "
            "--to onnx"
        ) from error


def save(model: Any, info: GraphInfo, path: Path) -> None:
    """Write a model with its description and a hash over both of its files: 16-bit weights for `half`."""
    openvino = package("openvino", "--to openvino")
    model.set_rt_info(info.to_json(), [KEY])
    model.set_rt_info(NO_HASH, [HASH_KEY])
    openvino.save_model(model, str(path), compress_to_fp16=info.precision == "half")
    text = read_bytes(path)
    path.write_bytes(text.replace(NO_HASH.encode(), _digest(text, path).encode()))


def _digest(text: bytes, path: Path) -> str:
    """The hash of the .xml, with zeros in place of the hash, and of the weights."""
    return hashlib.sha256(text + sha256(path.with_suffix(".bin")).encode()).hexdigest()


def _check_digest(path: Path, kept: str) -> None:
    """Raise InputError for files that aren't those that were written."""
    text = read_bytes(path).replace(kept.encode(), NO_HASH.encode())
    if _digest(text, path) != kept:
        raise InputError(f"{path} or its weights were changed after they were written: export both files again")


def opened(path: Path) -> Opened:
    """Load a file by OpenVINO on the CPU, which then computes in float32. Raises InputError for a damaged file."""
    openvino = package("openvino", f"running {path.name}")
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise InputError(f"{path} needs its weights {weights.name} beside it: copy both files")
    core = _core(openvino)
    try:
        model = core.read_model(str(path), str(weights))
        compiled = core.compile_model(model, "CPU", {**PRECISE, "INFERENCE_NUM_THREADS": torch.get_num_threads()})
    except RuntimeError as error:
        raise InputError(
            f"{path} cannot be loaded by OpenVINO ({_reason(error)}): it is damaged, or written for another version; "
            "export or copy both files again"
        ) from error
    if model.has_rt_info([HASH_KEY]):
        _check_digest(path, str(model.get_rt_info([HASH_KEY]).value))
    text = model.get_rt_info([KEY]).value if model.has_rt_info([KEY]) else None
    if len(model.inputs) != 1:
        raise InputError(f"{path} has {len(model.inputs)} inputs, but a re-ID model has one: the images")
    return Opened(
        GraphInfo.from_json(text, str(path)) if isinstance(text, str) else None,
        lambda images: list(compiled(images).to_tuple()),
        (RuntimeError,),
        {_name(each): _lengths(each) for each in model.inputs},
        {_name(each): _lengths(each) for each in model.outputs},
    )


@cache
def _core(openvino: ModuleType) -> Any:
    """The one core of this process, which lives as long as it does.

    Where a processor has AMX, OpenVINO's plugin gives the thread a signal stack and restores the former one when it
    ends. Of two plugins, the second restores the stack that the first has already unmapped: the next signal, e.g.
    Ctrl-C or the end of a loading process, is then a segmentation fault.
    """
    return openvino.Core()


def _name(port: Any) -> str:
    return next(iter(sorted(port.get_names())), "")


def _lengths(port: Any) -> tuple[int | None, ...]:
    return tuple(each.get_length() if each.is_static else None for each in port.get_partial_shape())


def _reason(error: RuntimeError) -> str:
    """What OpenVINO says beside the places in its own sources."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from", "Check '", "FrontEnd API"))]
    return first_line(ValueError(said[0])) if said else first_line(error)
