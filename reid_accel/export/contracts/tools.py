"""The tools that run exported models, by name."""

from collections.abc import Callable, Sequence
from pathlib import Path

from reid_accel.config.export import ExportConfig, Format
from reid_accel.export.contracts import boxmot, deepstream, roboflow, triton, ultralytics
from reid_accel.export.contracts.tool_graph import require_stretch
from reid_accel.export.job import Job
from reid_accel.models.architecture import Architecture

TOOL_WRITERS: dict[str, Callable[[Job, ExportConfig, Path], None]] = {
    "boxmot": boxmot.write,
    "ultralytics": ultralytics.write,
    "deepstream": deepstream.write,
    "roboflow": roboflow.write,
    "triton": triton.write,
}
"""Per tool, what writes its files into a new folder."""
STRETCHING = ("ultralytics", "roboflow")
"""Tools that can't letterbox."""


def check_tools(tools: Sequence[str], architecture: Architecture) -> None:
    """Raise InputError if one of the tools would feed the model other images than it was trained on."""
    for tool in tools:
        if tool in STRETCHING:
            require_stretch(architecture, tool)


def formats_of(tools: Sequence[str]) -> tuple[Format, ...]:
    """The formats that the tools' files need."""
    return tuple(dict.fromkeys("torchscript" if tool == "roboflow" else "onnx" for tool in tools))
