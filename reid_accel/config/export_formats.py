"""The formats of exported files. Nothing is imported here: scoring on machines without tyro needs them, too."""

FORMATS: dict[str, str] = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "torchscript": ".torchscript",
    "torch-export": ".pt2",
}
"""A format and the suffix of its file."""
