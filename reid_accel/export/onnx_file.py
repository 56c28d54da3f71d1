"""ONNX: writing a graph by torch's exporter, and reading it by ONNX Runtime."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from reid_accel.errors import InputError, first_line, listed
from reid_accel.export.graph import ExportGraph
from reid_accel.export.metadata import HASH_KEY, KEY, GraphInfo
from reid_accel.export.opened import Opened
from reid_accel.export.packages import package
from reid_accel.export.tracing import exported_program, traceable

EXPORTERS_OPSET = 18  # what torch writes; older ones are converted by onnx
NEWEST_IR = 10  # later files are refused by runtimes of 2024
MOST_BYTES = 2_000_000_000  # of a protobuf message


def write(graph: ExportGraph, info: GraphInfo, path: Path) -> tuple[str, ...]:
    """Write a graph as one self-contained file; returns notes for the user.

    The operators are of the options' set, or of torch's where onnx can't convert it. Raises InputError for a graph that
    can't be traced, or is too large for one file.
    """
    check_fits(graph)
    with traceable(graph, "ONNX"):
        program = torch.onnx.export(
            exported_program(graph),
            dynamo=True,
            opset_version=max(graph.options.opset, EXPORTERS_OPSET),
            input_names=[info.input_name],
            output_names=list(info.output_names),
            dynamic_shapes=({0: "batch"},),
            verbose=False,
        )
    assert program is not None
    model, notes = in_opset(program.model_proto, graph.options.opset)
    save(model, info, path)
    return notes


def check_fits(graph: ExportGraph) -> None:
    """Raise InputError for weights that a single file can't hold."""
    size = sum(value.numel() * value.element_size() for value in graph.state_dict().values())
    if size > MOST_BYTES:
        raise InputError(
            f"the model's weights take {size / 1e9:.1f} GB, and an ONNX file holds 2 GB: export with --half, or --to "
            "torch-export"
        )


def in_opset(model: Any, opset: int) -> tuple[Any, tuple[str, ...]]:
    """The model with older operators, if onnx can convert it, else unchanged and a note that says so."""
    if opset >= EXPORTERS_OPSET:
        return model, ()
    onnx = package("onnx", "--to onnx")
    older = type(model)()
    older.CopyFrom(model)
    for node in older.graph.node:
        for attribute in [each for each in node.attribute if each.name == "noop_with_empty_axes" and each.i == 0]:
            node.attribute.remove(attribute)  # new in 18, at its default; onnx would leave it
    try:
        older = onnx.version_converter.convert_version(older, opset)
        onnx.checker.check_model(older, full_check=True)
    except (RuntimeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = first_line(error).rpartition(": ")[2]
        return model, (f"the ONNX file has opset {EXPORTERS_OPSET}: onnx cannot convert it to {opset} ({reason})",)
    return older, ()


def save(model: Any, info: GraphInfo, path: Path) -> None:
    """Write an ONNX model with its description, without notes on where it was made."""
    onnx = package("onnx", "--to onnx")
    plain(model)
    model.ir_version = min(model.ir_version, NEWEST_IR)
    model.producer_name, model.doc_string = "reid_accel", ""
    del model.metadata_props[:]
    digest = _digest(model)
    onnx.helper.set_model_props(model, {KEY: info.to_json(), HASH_KEY: digest})
    path.write_bytes(model.SerializeToString(deterministic=True))


def plain(model: Any) -> None:
    """Remove the exporter's notes from a model: names of modules, paths and lines of Python files."""
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        entries = [*graph.node, *graph.value_info]
        entries += [*graph.input, *graph.output, *graph.initializer] if graph is model.graph else []
        for entry in entries:
            del entry.metadata_props[:]
            entry.doc_string = ""
        del graph.metadata_props[:]
        graph.doc_string = ""


def opened(path: Path) -> Opened:
    """Load a file by ONNX Runtime on the CPU. Raises InputError for a damaged or changed file."""
    runtime = package("onnxruntime", f"running {path.name}")
    errors = _errors()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except errors as error:
        raise InputError(
            f"{path} cannot be loaded by ONNX Runtime ({first_line(error)}): it is damaged, or written for another "
            "version; export or copy it again"
        ) from error
    entries = session.get_modelmeta().custom_metadata_map
    _check_digest(path, entries.get(HASH_KEY))
    inputs = {each.name: _lengths(each.shape) for each in session.get_inputs()}
    if len(inputs) != 1:
        raise InputError(f"{path} has {len(inputs)} inputs ({listed(inputs)}), but a re-ID model has one: the images")
    name = next(iter(inputs))
    return Opened(
        GraphInfo.from_json(entries[KEY], str(path)) if KEY in entries else None,
        lambda images: list(session.run(None, {name: images})),
        errors,
        inputs,
        {each.name: _lengths(each.shape) for each in session.get_outputs()},
    )


def _lengths(shape: list[Any]) -> tuple[int | None, ...]:
    return tuple(length if isinstance(length, int) else None for length in shape)


def _errors() -> tuple[type[BaseException], ...]:
    """The exceptions of ONNX Runtime, which have no base of their own, and what its binding raises."""
    state = package("onnxruntime.capi.onnxruntime_pybind11_state", "running ONNX files")
    names: tuple[str, ...] = (
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoModel",
        "NoSuchFile",
        "NotFound",
    )
    names += ("NotImplemented", "RuntimeException", "EPFail", "EngineError")
    return (*(getattr(state, name) for name in names if hasattr(state, name)), RuntimeError, ValueError)


def _digest(model: Any) -> str:
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def _check_digest(path: Path, kept: str | None) -> None:
    """Raise InputError for a file whose graph isn't the one that was written."""
    if kept is None:
        return
    onnx = package("onnx", f"checking {path.name}")
    model = onnx.load(str(path))
    del model.metadata_props[:]
    if _digest(model) != kept:
        raise InputError(
            f"{path} was changed after it was written (its weights or operators have another hash): export it again"
        )
