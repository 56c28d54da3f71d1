"""What an exported graph expects and returns, and the formats of files. No tyro: scoring works without it."""

import re
from dataclasses import dataclass
from typing import Literal

from reid_accel.config.checks import check, check_choices

FORMATS: dict[str, str] = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "torchscript": ".torchscript",
    "torch-export": ".pt2",
}
"""A format and the suffix of its file."""
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
