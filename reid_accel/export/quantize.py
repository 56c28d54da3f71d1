"""Static quantization of ONNX files to 8 bits by ONNX Runtime.

Weights and activations become 8-bit integers between pairs of quantize and dequantize operators (QDQ). The range of
each activation is that of the calibration images. Legend: B batch, H W pixels.
"""

import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reid_accel.errors import InputError, first_line
from reid_accel.export import onnx_file
from reid_accel.export.metadata import GraphInfo
from reid_accel.export.packages import package

LAYERS = ("Conv", "Gemm", "MatMul")
"""Operators with weights."""


@dataclass(frozen=True)
class Int8Method:
    """How a file is quantized.

    per_channel: each output channel of a layer's weights has a scale of its own. only_layers: operators without
    weights, such as additions and gates, stay in 32 bits. keep_ends: the first and the last layer do, too.
    """

    name: str
    per_channel: bool = True
    only_layers: bool = False
    keep_ends: bool = False


METHODS = (
    Int8Method("per channel"),
    Int8Method("per channel, first and last layer in 32 bits", keep_ends=True),
    Int8Method("per channel, only layers with weights", only_layers=True),
    Int8Method("per channel, only layers with weights, first and last in 32 bits", only_layers=True, keep_ends=True),
)
"""From the smallest and fastest file to the most careful one."""


def quantize(
    source: Path,
    target: Path,
    batches: Sequence[npt.NDArray[np.float32]],
    method: Int8Method,
    info: GraphInfo,
) -> GraphInfo:
    """Write the int8 version of a float32 ONNX file; returns its description.

    batches: calibration images as the graph expects them, each B x 3 x H x W. Raises InputError without any, or for a
    graph that ONNX Runtime can't quantize.
    """
    if not batches:
        raise InputError("--int8 needs calibration images: the images of the run's training split")
    onnx = package("onnx", "--int8")
    with _process_kept(), tempfile.TemporaryDirectory() as scratch:
        quantization = package("onnxruntime.quantization", "--int8")
        preprocessing = package("onnxruntime.quantization.shape_inference", "--int8")
        prepared, written = Path(scratch, "prepared.onnx"), Path(scratch, "int8.onnx")
        try:
            preprocessing.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(prepared),
                str(written),
                _Reader(info.input_name, batches),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=method.per_channel,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=list(LAYERS) if method.only_layers else None,
                nodes_to_exclude=ends(onnx.load(str(prepared))) if method.keep_ends else [],
            )
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise InputError(
                f"ONNX Runtime cannot quantize {source.name} ({first_line(error)}): leave --int8 out"
            ) from error
        quantized = replace(info, precision="int8")
        onnx_file.save(onnx.load(str(written)), quantized, target)
    return quantized


@contextmanager
def _process_kept() -> Iterator[None]:
    """What ONNX Runtime changes is as before: Python's path, where modules of its folder would hide others, and the
    root logger, whose level it sets and through which it warns of weights without channels.
    """
    path, level, silent = list(sys.path), logging.root.level, logging.NullHandler()
    logging.root.addHandler(silent)  # without any, the first warning adds one that prints
    try:
        yield
    finally:
        sys.path[:] = path
        logging.root.setLevel(level)
        logging.root.removeHandler(silent)


def ends(model: "object") -> list[str]:
    """The names of the first and of the last operator with weights."""
    layers = [node.name for node in model.graph.node if node.op_type in LAYERS]  # type: ignore[attr-defined]
    return [layers[0], layers[-1]] if layers else []


class _Reader:
    """Calibration images as ONNX Runtime asks for them."""

    def __init__(self, name: str, batches: Sequence[npt.NDArray[np.float32]]) -> None:
        self.name, self.batches = name, list(batches)
        self.position = 0

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """The next batch, None after the last."""
        self.position += 1
        found = self.batches[self.position - 1 : self.position]
        return {self.name: found[0]} if found else None

    def __len__(self) -> int:
        return len(self.batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Required by ONNX Runtime for large sets; unused here."""
