"""Ultralytics' trackers: the settings, and their own encoder on our file (where it is installed)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers.street import cut, street
from helpers.tool_exports import cosines, exported_for, lively_model, resized_alike, said
from torch.nn import functional as F

from reid_accel.augment.ops import normalize
from reid_accel.errors import InputError
from reid_accel.export.contracts.ultralytics import FILE, SETTINGS
from reid_accel.models.reid import ReIDModel


def test_the_settings_are_two_lines_of_yaml() -> None:
    assert yaml.safe_load(SETTINGS) == {"with_reid": True, "model": FILE}


def test_a_letterboxed_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ultralytics can't letterbox crops"):
        exported_for("ultralytics", lively_model(fit="letterbox"), tmp_path)
    assert not (tmp_path / "ultralytics").exists()


def of_pixels(model: ReIDModel, crops: list[np.ndarray]) -> torch.Tensor:
    """Features of crops that are resized in float, without antialiasing and without rounding."""
    size = (model.architecture.height_px, model.architecture.width_px)
    floats = [torch.from_numpy(crop.copy()).permute(2, 0, 1)[None] / 255 for crop in crops]
    images = torch.cat([F.interpolate(image, size, mode="bilinear", align_corners=False) for image in floats])
    with torch.no_grad():
        return model(normalize(images, model.architecture.mean, model.architecture.std)).feature_BD


@pytest.mark.contracts
@pytest.mark.parametrize("facts", [{}, {"interpolation": "cv2", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}])
def test_ultralytics_own_encoder_gives_our_features(tmp_path: Path, facts: dict[str, Any]) -> None:
    reid = pytest.importorskip("ultralytics.trackers.utils.reid")
    model = lively_model(**facts)
    folder = exported_for("ultralytics", model, tmp_path)
    encoder = reid.build_encoder(True, str(folder / FILE), "cpu")
    assert encoder.imgsz == (model.architecture.height_px, model.architecture.width_px)
    frame, boxes = street()
    bgr = np.ascontiguousarray(frame[:, :, ::-1])
    middles, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    detections = np.concatenate([middles, sizes], axis=1)
    found = np.stack(encoder(bgr, detections))
    crops = [np.ascontiguousarray(crop[:, :, ::-1]) for crop in encoder._crop_detections(bgr, detections)]
    same_pixels, as_trained = of_pixels(model, crops), model.embed(crops)
    said("ultralytics", found, same_pixels, as_trained)
    assert cosines(found, same_pixels).min() >= 0.9999
    assert (cosines(found, as_trained)[resized_alike(model, crops)] >= 0.995).all()
    swapped = np.stack(encoder(frame, detections))
    assert cosines(swapped, same_pixels).min() < 0.9999, "the control: red and blue swapped"
    without_margin = model.embed([cut(frame, box) for box in boxes])
    print(f"ultralytics: the box without the margin {cosines(found, without_margin).min():.6f}")
