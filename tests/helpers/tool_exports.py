"""A small model, and its files for the tools that run exported models."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from reid_accel.config.export import ExportConfig, Tool
from reid_accel.config.schema import ModelConfig
from reid_accel.export.contracts.tools import TOOL_WRITERS, check_tools
from reid_accel.export.job import Job
from reid_accel.export.parity import reference
from reid_accel.export.pictures import drawn_pedestrians, proof_pictures
from reid_accel.models.architecture import Architecture
from reid_accel.models.reid import ReIDModel, load_model

MODEL = os.environ.get("CONTRACTS_MODEL") or None
"""The folder of a trained model to test with instead of a small one."""


def lively_model(backbone: str = "test_resnet", height_px: int = 128, width_px: int = 64, **facts: Any) -> ReIDModel:
    """A network with the batch norms of drawn pedestrians, so that other pixels give other features."""
    if MODEL is not None:
        return load_model(MODEL)
    torch.manual_seed(0)
    keys = ("mean", "std", "groups")
    settings = {"neck": "bn", "metric": "cosine", **{key: value for key, value in facts.items() if key not in keys}}
    config = ModelConfig(backbone=backbone, pretrained=False, height_px=height_px, width_px=width_px, **settings)
    given = {key: facts[key] for key in keys if key in facts}
    model = ReIDModel(Architecture(model=config, num_identities=2, **given))
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the mean over all batches
    model.train()
    with torch.no_grad():
        model(model.prepare(drawn()[:16]))
    return model.eval()


drawn = functools.cache(drawn_pedestrians)


def exported_for(tool: Tool, model: ReIDModel, folder: Path, to: Sequence[str] = ("onnx",), **options: Any) -> Path:
    """A tool's folder, written as `reid-accel export --for` does."""
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra `export`")
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    job = Job(model, reference(model, proof_pictures(model.architecture)), scratch)
    check_tools([tool], model.architecture)
    TOOL_WRITERS[tool](job, ExportConfig(to=tuple(to), **options), folder / tool)
    return folder / tool


def cosines(first_ND: Any, second_ND: Any) -> npt.NDArray[np.float64]:
    first, second = np.asarray(first_ND, np.float64), np.asarray(second_ND, np.float64)
    assert first.shape == second.shape
    return (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


def resized_alike(model: ReIDModel, crops: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.bool_]:
    """For each crop whether a tool without antialiasing makes the same of it, to rounding, as the model's own resize.

    A crop that is enlarged needs no antialiasing; a model that was trained like that does none.
    """
    size = model.architecture
    small = [crop.shape[0] <= size.height_px and crop.shape[1] <= size.width_px for crop in crops]
    return np.array(small) | (size.interpolation == "cv2")


def said(tool: str, found: Any, same_pixels: Any, as_trained: Any) -> None:
    """Print what documents tell, with pytest -s."""
    own = " ".join(f"{cosine:.4f}" for cosine in cosines(found, as_trained))
    print(f"{tool}: lowest cosine {cosines(found, same_pixels).min():.6f} given the same pixels; own resize {own}")
