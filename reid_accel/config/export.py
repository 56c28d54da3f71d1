"""Settings of `reid-accel export`. No torch here: they are checked before it is imported."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Literal

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from reid_accel.config.checks import check, expand_homes
from reid_accel.config.export_graph import FORMATS, GraphOptions
from reid_accel.errors import InputError

Format = Literal["onnx", "openvino", "torchscript", "torch-export"]
Tool = Literal["boxmot", "ultralytics", "deepstream", "roboflow", "triton"]

TOOLS: tuple[Tool, ...] = ("boxmot", "ultralytics", "deepstream", "roboflow", "triton")


def word_list(metavar: str, allowed: tuple[str, ...]) -> PrimitiveConstructorSpec[tuple[str, ...]]:
    """How the command line reads a flag's words, so that its error names the flag."""
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"{metavar}[,{metavar}...]",
        instance_from_str=lambda given: chosen(given, allowed),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=list,
    )


@dataclass(frozen=True, kw_only=True)
class ExportConfig(GraphOptions):
    """Settings of an export: the formats, the tools, the place, and the graph."""

    to: Annotated[tuple[str, ...], word_list("FORMAT", tuple(FORMATS))] = ("onnx",)
    """Formats, separated by commas: onnx, openvino, torchscript, torch-export."""
    tools: Annotated[tuple[str, ...], word_list("TOOL", TOOLS), tyro.conf.arg(name="for")] = ()
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
        object.__setattr__(self, "to", chosen(self.to, tuple(FORMATS), "--to: "))
        object.__setattr__(self, "tools", chosen(self.tools, TOOLS, "--for: "))
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


def chosen(given: Sequence[str], allowed: tuple[str, ...], flag: str = "") -> tuple[str, ...]:
    """Words that may be separated by commas, each once, in their order. `flag` starts the error of an unknown one.

    >>> chosen(("onnx,openvino", "onnx"), ("onnx", "openvino"))
    ('onnx', 'openvino')
    """
    words = [word.strip() for text in given for word in text.split(",")]
    for word in words:
        if word and word not in allowed:
            raise InputError(f"{flag}there is no {word!r}; there are {', '.join(allowed)}")
    return tuple(dict.fromkeys(word for word in words if word))
