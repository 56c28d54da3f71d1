"""BoxMOT (checked with 25.0.0): `NAME.onnx`, `NAME_openvino_model/` or `NAME.torchscript`, each with a description.

BoxMOT tells the format by the suffix, crops and resizes by OpenCV, normalizes with ImageNet's mean and deviation,
whatever the model's are, runs the first output and scales features to unit length. Without a description it guesses an
architecture from the file's name, and for OpenVINO and TorchScript an input of 256 x 128.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reid_accel.augment.ops import IMAGENET_MEAN, IMAGENET_STD
from reid_accel.config.export import ExportConfig
from reid_accel.export.contracts.readme import RESIZES, resize_line, write_readme
from reid_accel.export.contracts.tool_graph import tool_graph
from reid_accel.export.job import Job, Written
from reid_accel.export.metadata import GraphInfo
from reid_accel.files import sha256, write_json

STEM = "reid"
"""Of the file names: none of the architectures and data sets that BoxMOT looks for in them."""
PREPROCESS = {"stretch": "resize", "letterbox": "resize_pad"}
_OPENVINO_FOLDER = f"{STEM}_openvino_model"
_PLACES = {
    "onnx": f"{STEM}.onnx",
    "openvino": f"{_OPENVINO_FOLDER}/{STEM}.xml",
    "torchscript": f"{STEM}.torchscript",
}
_DESCRIPTIONS = {
    "onnx": f"{STEM}.onnx.metadata.json",
    "openvino": f"{_OPENVINO_FOLDER}/manifest.json",
    "torchscript": f"{STEM}.torchscript.metadata.json",
}


def write(job: Job, config: ExportConfig, folder: Path) -> None:
    """Write the ONNX file, and OpenVINO and TorchScript where the export has them."""
    architecture = job.model.architecture
    usual = (architecture.mean, architecture.std) == (IMAGENET_MEAN, IMAGENET_STD)
    options = tool_graph(config, flavor="raw", caller="model" if usual else "imagenet")
    forms = [form for form in _PLACES if form == "onnx" or form in config.to]
    for form in forms:
        written = job.file(form, options).copy_to(folder / _PLACES[form])
        write_json(folder / _DESCRIPTIONS[form], description(written))
        if form == "onnx":
            write_readme(folder, "BoxMOT", readme_lines(written.info, forms), written)


def description(written: Written) -> Mapping[str, Any]:
    """The content of BoxMOT's metadata file (its schema 1)."""
    info = written.info
    size = [info.height_px, info.width_px]
    return {
        "schema_version": 1,
        "model_name": info.backbone,
        "num_classes": 1,  # the identities of training are not in the graph
        "preprocess": PREPROCESS[info.fit],
        "img_size": size,
        "model_kwargs": {"img_size": size},
        "model_kwargs_schema_version": 1,
        "input_name": info.input_name,
        "output_names": list(info.output_names),
        "dynamic_batch": True,
        "artifact_sha256": sha256(written.path),
    }


def readme_lines(info: GraphInfo, forms: list[str]) -> list[str]:
    """What to put where."""
    names = [_OPENVINO_FOLDER if form == "openvino" else _PLACES[form] for form in forms]
    preprocess = f', preprocess_name="{PREPROCESS[info.fit]}"' if info.fit != "stretch" else ""
    compared = "" if info.metric == "cosine" else f" (the model was trained for the {info.metric} distance)"
    return [
        f"Copy {' or '.join(f'`{name}`' for name in names)} into your project, with its metadata file, both unrenamed.",
        f'In Python: `from boxmot.reid.core import ReID; ReID("{names[0]}"{preprocess})`, called with a BGR image and '
        "boxes; on the command line: `--reid " + names[0] + "`.",
        f"BoxMOT normalizes by itself and compares by the cosine{compared}.",
        resize_line("BoxMOT", RESIZES["cv2"], info.interpolation),
    ]
