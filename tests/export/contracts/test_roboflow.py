"""roboflow's reid: its own class on our folder or module (where it is installed)."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.street import cut, street
from helpers.tool_exports import cosines, exported_for, lively_model
from PIL import Image
from safetensors.torch import load_file

from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.errors import InputError


def test_a_model_that_timm_builds_from_its_name_goes_as_name_and_weights(tmp_path: Path) -> None:
    model = lively_model("test_convnext", mean=(0.1, 0.2, 0.3), interpolation="bicubic")
    folder = exported_for("roboflow", model, tmp_path)
    said = json.loads((folder / "reid_config.json").read_text())
    assert said["architecture"] == "timm:test_convnext"
    steps = said["preprocessing"]
    assert (steps["input_size"], steps["mean"], steps["interpolation"]) == ([128, 64], [0.1, 0.2, 0.3], "bicubic")
    assert set(load_file(folder / "weights.safetensors")) == set(model.backbone.state_dict())
    assert not (folder / "reid.torchscript").exists()


def test_any_other_model_goes_as_a_module_and_the_readme_says_why(tmp_path: Path) -> None:
    folder = exported_for("roboflow", lively_model(groups=MARKET_GROUPS), tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "preprocessing.json", "reid.torchscript"]
    assert "attribute scores are part of its feature" in (folder / "README.md").read_text()


def test_a_letterboxed_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="roboflow can't letterbox crops"):
        exported_for("roboflow", lively_model(fit="letterbox"), tmp_path)


@pytest.mark.contracts
@pytest.mark.parametrize(
    ("backbone", "settings", "named"),
    [
        ("test_convnext", {}, True),
        ("test_resnet", {"neck_feature": "before"}, True),
        ("osnet_x0_25", {"neck": "fc", "mean": (0.5, 0.5, 0.5)}, True),
        ("test_resnet", {}, False),
        ("test_resnet", {"groups": MARKET_GROUPS, "mean": (0.5, 0.5, 0.5)}, False),
    ],
)
def test_roboflows_own_class_gives_our_features(
    tmp_path: Path, backbone: str, settings: dict[str, Any], named: bool
) -> None:
    reid = pytest.importorskip("reid")
    supervision = pytest.importorskip("supervision")
    model = lively_model(backbone, **settings)
    folder = exported_for("roboflow", model, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of weights that don't all fit
        if (folder / "reid_config.json").exists():
            theirs = reid.ReIDModel.from_pretrained(str(folder), device="cpu")
        else:
            steps = reid.ReIDPreprocessing.from_dict(json.loads((folder / "preprocessing.json").read_text()))
            module = torch.jit.load(str(folder / "reid.torchscript"))
            theirs = reid.ReIDModel.from_pretrained(architecture=module, preprocessing=steps, device="cpu")
    frame, boxes = street()
    detections = supervision.Detections(xyxy=boxes)
    found = theirs.extract_embeddings(detections, np.ascontiguousarray(frame[:, :, ::-1]))
    size = (model.architecture.width_px, model.architecture.height_px)
    filter = Image.Resampling.BILINEAR
    ours = model.embed([np.asarray(Image.fromarray(cut(frame, box)).resize(size, filter)) for box in boxes])
    print(f"roboflow {backbone}: {cosines(found, ours).min():.6f}")
    assert cosines(found, ours).min() >= 0.9999
    swapped = theirs.extract_embeddings(detections, frame)
    assert cosines(swapped, ours).min() < 0.9999, "the control: red and blue swapped"
