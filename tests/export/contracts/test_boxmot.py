"""BoxMOT: what its metadata says, and its own class on our files (where it is installed)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.street import cut, street
from helpers.tool_exports import cosines, exported_for, lively_model, resized_alike, said

from reid_accel.augment.ops import IMAGENET_MEAN, IMAGENET_STD, normalize
from reid_accel.config.export import ExportConfig
from reid_accel.export.contracts.boxmot import description, readme_lines
from reid_accel.export.contracts.tool_graph import tool_graph
from reid_accel.export.graph import ExportGraph
from reid_accel.export.job import Written
from reid_accel.export.metadata import info_of
from reid_accel.export.parity import Proof
from reid_accel.files import sha256
from reid_accel.models.reid import ReIDModel

OPTIONS = tool_graph(ExportConfig(), flavor="raw")


def test_the_metadata_are_what_boxmot_reads(tmp_path: Path) -> None:
    file = tmp_path / "reid.onnx"
    file.write_bytes(b"a graph")
    content = description(Written(file, "onnx", info_of(lively_model(), OPTIONS), Proof(1.0, 32)))
    assert content["img_size"] == content["model_kwargs"]["img_size"] == [128, 64]
    assert (content["input_name"], content["output_names"], content["dynamic_batch"]) == ("images", ["output0"], True)
    assert (content["model_kwargs_schema_version"], content["preprocess"]) == (1, "resize")
    assert content["artifact_sha256"] == sha256(file)
    assert json.loads(json.dumps(content)) == content


def test_a_letterboxed_models_readme_says_how_boxmot_letterboxes() -> None:
    letterboxed, stretched = (
        " ".join(readme_lines(info_of(lively_model(fit=fit), OPTIONS), ["onnx"])) for fit in ("letterbox", "stretch")
    )
    assert 'preprocess_name="resize_pad"' in letterboxed
    assert "preprocess_name" not in stretched


def test_boxmots_normalization_is_made_up_for_in_the_graph() -> None:
    model = lively_model(mean=(0.5, 0.4, 0.3), std=(0.5, 0.6, 0.7))
    frame, boxes = street()
    crops = [cut(frame, box) for box in boxes]
    images = model.prepare(crops) * torch.tensor(model.architecture.std).view(1, 3, 1, 1)
    images = normalize(images + torch.tensor(model.architecture.mean).view(1, 3, 1, 1), IMAGENET_MEAN, IMAGENET_STD)
    found, control = (
        ExportGraph(model, tool_graph(ExportConfig(), flavor="raw", caller=caller))(images)
        for caller in ("imagenet", "model")
    )
    assert cosines(found, model.embed(crops)).min() >= 0.9999
    assert cosines(control, model.embed(crops)).min() < 0.999, "the control: two normalizations"
    info = info_of(model, tool_graph(ExportConfig(), flavor="raw", caller="imagenet"))
    assert (info.mean, info.std, info.flavor) == (IMAGENET_MEAN, IMAGENET_STD, "raw")


def as_boxmot_resizes(model: ReIDModel, crops: list[np.ndarray]) -> torch.Tensor:
    cv2 = pytest.importorskip("cv2")
    size = (model.architecture.width_px, model.architecture.height_px)
    return model.embed([cv2.resize(crop, size, interpolation=cv2.INTER_LINEAR) for crop in crops])


@pytest.mark.contracts
@pytest.mark.parametrize("facts", [{}, {"interpolation": "cv2", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}])
def test_boxmots_own_class_gives_our_features(tmp_path: Path, facts: dict[str, Any]) -> None:
    runtime = pytest.importorskip("boxmot.reid.core.runtime")
    model = lively_model(**facts)
    folder = exported_for("boxmot", model, tmp_path, to=("onnx", "openvino", "torchscript"))
    frame, boxes = street()
    crops = [cut(frame, box) for box in boxes]
    same_pixels, as_trained = as_boxmot_resizes(model, crops), model.embed(crops)
    bgr, alike = np.ascontiguousarray(frame[:, :, ::-1]), resized_alike(model, crops)
    for name in ("reid.onnx", "reid_openvino_model", "reid.torchscript"):
        theirs = runtime.ReID(str(folder / name), device="cpu")
        found = theirs(bgr, boxes)
        said(f"boxmot {name}", found, same_pixels, as_trained)
        assert cosines(found, same_pixels).min() >= 0.9999, name
        assert (cosines(found, as_trained)[alike] >= 0.995).all(), name
        assert cosines(theirs(frame, boxes), same_pixels).min() < 0.9999, "the control: red and blue swapped"
        assert tuple(theirs.model.input_shape) == (model.architecture.height_px, model.architecture.width_px)


@pytest.mark.contracts
def test_boxmots_public_encoder_takes_our_file(tmp_path: Path) -> None:
    reid = pytest.importorskip("boxmot.reid")
    structures = pytest.importorskip("boxmot.structures")
    model = lively_model()
    folder = exported_for("boxmot", model, tmp_path)
    spec = reid.ReIDEncoderSpec(
        backend="onnx", artifact=str(folder / "reid.onnx"), artifact_sha256=sha256(folder / "reid.onnx")
    )
    encoder = reid.create_reid_encoder(spec)
    frame, boxes = street()
    image = structures.Frame(image=torch.from_numpy(frame.transpose(2, 0, 1).copy()), sample_id="0")
    detections = structures.Detections(
        geometry=structures.Boxes(torch.from_numpy(boxes)),
        scores=torch.ones(len(boxes)),
        class_ids=torch.zeros(len(boxes), dtype=torch.int64),
        sample_id="0",
    )
    (found,) = encoder.encode([image], [detections])
    assert cosines(found, as_boxmot_resizes(model, [cut(frame, box) for box in boxes])).min() >= 0.9999
