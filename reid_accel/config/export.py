"""Settings of `reid-accel export`. No torch here: they are checked before it is imported."""

import math
import re
from dataclasses import dataclass, fields
from typing import Annotated, Literal

import tyro

from reid_accel.config.checks import check, check_choices, expand_homes
from reid_accel.config.export_formats import FORMATS
from reid_accel.errors import InputError

Format = Literal["onnx", "openvino", "torchscript", "torch-export"]
Tool = Literal["boxmot", "ultralytics", "deepstream", "roboflow", "triton"]

TOOLS: tuple[Tool, ...] = ("boxmot", "ultralytics", "deepstream", "roboflow", "triton")
OPSETS = (17, 23)
_TENSOR_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """What an exported graph expects and returns."""

    flavor: Literal["raw", "inside"] = "raw"
    """`raw`: the caller normalizes the pixels; `inside`: the graph does."""
    pixel_range: Literal[1, 255] = 1
    """With `inside`: the value of a white pixel."""
    bgr: bool = False
    """With `inside`: the channels come in the order blue, green, red."""
    caller: Literal["model", "imagenet"] = "model"
    """With `raw`: the mean and deviation that the caller normalizes with, the model's own or ImageNet's. The graph
    makes up for the difference."""
    unit_length: Literal["auto", "on", "off"] = "auto"
    """Features of unit length; `auto`: if the model's metric is cosine."""
    with_attributes: bool = False
    """Add one output for each attribute group: the probabilities of its values."""
    half: bool = False
    """Compute in 16 bits; input and output stay in 32."""
    input_name: str = "images"
    """Name of the input."""
    output_name: str = "output0"
    """Name of the feature, the first output."""
    opset: int = 17
    """ONNX operator set."""

    def __post_init__(self) -> None:
        check_choices(self, "export")
        inside = self.flavor == "inside"
        check(inside or self.pixel_range == 1, "--pixel-range", "left out with --flavor raw", self.pixel_range)
        check(inside or not self.bgr, "--bgr", "left out with --flavor raw", self.bgr)
        check(not inside or self.caller == "model", "--caller", "left out with --flavor inside", self.caller)
        for name, value in (("--input-name", self.input_name), ("--output-name", self.output_name)):
            check(bool(_TENSOR_NAME.fullmatch(value)), name, "letters, digits and _, no digit first", value)
        check(self.input_name != self.output_name, "--output-name", "another name than the input's", self.output_name)
        check(not self.output_name.startswith("attribute_"), "--output-name", "no attribute's", self.output_name)
        check(OPSETS[0] <= self.opset <= OPSETS[1], "--opset", f"from {OPSETS[0]} to {OPSETS[1]}", self.opset)


@dataclass(frozen=True, kw_only=True)
class ExportConfig(GraphOptions):
    """Settings of an export: the formats, the tools, the place, and the graph."""

    to: tuple[str, ...] = ("onnx",)
    """Formats, separated by commas: onnx, openvino, torchscript, torch-export."""
    tools: Annotated[tuple[str, ...], tyro.conf.arg(name="for")] = ()
    """Tools to write files for, separated by commas: boxmot, ultralytics, deepstream, roboflow, triton."""
    out: str | None = None
    """New folder; unset: `export` beside the model's folder."""
    int8: bool = False
    """Also write model-int8.onnx, quantized with images of the run, which must be there."""
    max_drop: float = 0.5
    """Refuse int8 if the mAP of the run's query and gallery falls by this many points or more."""
    images: str | None = None
    """An image or a folder of images, to prove the export on as well."""
    overwrite: bool = False
    """Replace an earlier export in the folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        expand_homes(self, ("out", "images"))
        object.__setattr__(self, "to", chosen("--to", self.to, tuple(FORMATS)))
        object.__setattr__(self, "tools", chosen("--for", self.tools, TOOLS))
        check(math.isfinite(self.max_drop) and self.max_drop > 0, "--max-drop", "positive", self.max_drop)
        check(
            not self.int8 or ("onnx" in self.to and not self.half),
            "--int8",
            "used with --to onnx, without --half",
            True,
        )
        check(bool(self.to), "--to", f"one or more of {', '.join(FORMATS)}", "nothing")

    @property
    def graph(self) -> GraphOptions:
        """The settings of the graph alone."""
        return GraphOptions(**{field.name: getattr(self, field.name) for field in fields(GraphOptions)})


def chosen(flag: str, given: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Words that may be separated by commas, each once, in their order.

    >>> chosen("--to", ("onnx,openvino", "onnx"), ("onnx", "openvino"))
    ('onnx', 'openvino')
    """
    words = [word.strip() for text in given for word in text.split(",")]
    for word in words:
        if word and word not in allowed:
            raise InputError(f"{flag}: there is no {word!r}; there are {', '.join(allowed)}")
    return tuple(dict.fromkeys(word for word in words if word))
