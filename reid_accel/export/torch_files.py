"""TorchScript and torch.export: torch's own two formats."""

import json
import re
import warnings
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from reid_accel.errors import InputError, first_line
from reid_accel.export.graph import ExportGraph
from reid_accel.export.metadata import KEY, GraphInfo
from reid_accel.export.opened import Opened
from reid_accel.export.tracing import example, exported_program, traceable

INFO_FILE = f"{KEY}.json"
_PROGRAM_ENTRIES = re.compile(
    r"[^/]+/(data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|models/model\.json|data/sample_inputs/model\.pt|extra/[^/]+|archive_format|archive_version|byteorder"
    r"|\.data/(version|serialization_id|alignment))"
)
_FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, OSError)


def write_torchscript(graph: ExportGraph, info: GraphInfo, path: Path) -> None:
    """Write a traced graph, with constants and batch norms folded. Raises InputError where torch lacks TorchScript."""
    if not hasattr(torch.jit, "trace"):
        raise InputError(f"torch {torch.__version__} has no TorchScript: export --to torch-export instead")
    with traceable(graph, "TorchScript"):
        traced = torch.jit.freeze(torch.jit.trace(graph, (example(graph),), check_trace=False))
        content = BytesIO()
        torch.jit.save(traced, content, _extra_files={INFO_FILE: info.to_json()})
    path.write_bytes(content.getbuffer())  # torch's own writer reports a full disk as an error of the network


def write_program(graph: ExportGraph, info: GraphInfo, path: Path) -> None:
    """Write what torch.export sees, without example inputs, so that nothing in the file is pickled."""
    with traceable(graph, "torch.export"):
        program = exported_program(graph)
        program._example_inputs = None
        content = BytesIO()
        torch.export.save(program, content, extra_files={INFO_FILE: info.to_json()})
    path.write_bytes(content.getbuffer())


def opened_torchscript(path: Path) -> Opened:
    """Load a TorchScript file; torch's reader makes tensors and TorchScript of it, no Python objects."""
    _check_archive(path)
    found = {INFO_FILE: ""}
    module = _loaded(lambda: torch.jit.load(str(path), map_location="cpu", _extra_files=found), path)
    return _opened(module, found[INFO_FILE], path)


def opened_program(path: Path) -> Opened:
    """Load a file of torch.export. Raises InputError for one with pickled or compiled parts, which could run code."""
    _check_archive(path)
    _check_has_no_code(path)
    found = {INFO_FILE: ""}
    program = _loaded(lambda: torch.export.load(str(path), extra_files=found), path)
    return _opened(program.module(), found[INFO_FILE], path)


def _loaded(load: Callable[[], Any], path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TorchScript is deprecated
            return load()
    except _FAILURES as error:
        raise InputError(
            f"{path} cannot be loaded by torch {torch.__version__} ({first_line(error)}): it is damaged, or written by "
            "another version; export or copy it again"
        ) from error


def _opened(module: Any, text: str | bytes, path: Path) -> Opened:
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return Opened(
        GraphInfo.from_json(text, str(path)) if text else None,
        lambda images: _outputs(module, images),
        (RuntimeError, ValueError, AssertionError, TypeError),
        {},
        {},
    )


def _outputs(module: Any, images: Any) -> list[Any]:
    with torch.no_grad():
        outputs = module(torch.from_numpy(images))
    return [output.numpy() for output in (outputs if isinstance(outputs, tuple | list) else [outputs])]


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise InputError(
            f"{path} is damaged, or no file of torch ({first_line(error)}): export or copy it again"
        ) from error
    if damaged is not None:
        raise InputError(f"{path} is damaged ({damaged} has another checksum): export or copy it again")


def _check_has_no_code(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        strange = [name for name in names if not _PROGRAM_ENTRIES.fullmatch(name)]
        strange += [
            name for name in names if name.endswith("/sample_inputs/model.pt") and archive.getinfo(name).file_size
        ]
        for name in names:
            if name.endswith("_config.json"):
                entries = json.loads(archive.read(name)).get("config", {})
                strange += [key for key, entry in entries.items() if entry.get("use_pickle", True)]
    if strange:
        raise InputError(
            f"{path} has parts that could run code when they are loaded, or is written by a torch before 2.8 "
            f"({strange[0]}): export it again with this package"
        )
