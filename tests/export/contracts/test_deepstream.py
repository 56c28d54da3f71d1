"""DeepStream: the section of its settings, and its arithmetic on the file."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.street import cut, street
from helpers.tool_exports import cosines, exported_for, lively_model
from PIL import Image

from reid_accel.config.export import ExportConfig
from reid_accel.export.contracts.deepstream import settings
from reid_accel.export.contracts.tool_graph import tool_graph
from reid_accel.export.metadata import info_of
from reid_accel.export.runtimes import open_runtime


@pytest.mark.parametrize(("fit", "kept"), [("stretch", 0), ("letterbox", 1)])
def test_the_section_says_what_the_graph_is(fit: str, kept: int) -> None:
    model = lively_model(fit=fit)
    config = ExportConfig(half=fit == "letterbox")
    said = yaml.safe_load(settings(info_of(model, tool_graph(config, flavor="inside", pixel_range=255))))["ReID"]
    assert (said["inferDims"], said["reidFeatureSize"]) == ([3, 128, 64], model.feature_size)
    assert (said["netScaleFactor"], said["offsets"], said["colorFormat"], said["inputOrder"]) == (1, [0, 0, 0], 0, 0)
    assert (said["keepAspc"], said["networkMode"]) == (kept, kept)
    assert said["modelEngineFile"].startswith(f"{said['onnxFile']}_b{said['batchSize']}_gpu0_fp")


def test_its_arithmetic_gives_our_features(tmp_path: Path) -> None:
    model = lively_model(std=(0.1, 0.2, 0.3))
    folder = exported_for("deepstream", model, tmp_path)
    said = yaml.safe_load((folder / "reid.yml").read_text())["ReID"]
    _, height, width = said["inferDims"]
    readme = (folder / "README.md").read_text()
    assert [line[:2] for line in readme.splitlines()[2:]] == ["1.", "2.", "3.", "4.", "5."]
    assert "batch sizes 1, 2, 7, 32" in readme
    frame, boxes = street()
    crops = [np.asarray(Image.fromarray(cut(frame, box)).resize((width, height))) for box in boxes]
    pixels = np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32)
    offsets = np.array(said["offsets"], np.float32)[:, None, None]
    runtime = open_runtime(folder / said["onnxFile"])
    ours = model.embed(crops)
    assert cosines(runtime.features(said["netScaleFactor"] * (pixels - offsets)), ours).min() >= 0.9999
    assert cosines(runtime.features(pixels / 255), ours).min() < 0.9999, "the control: scaled"
