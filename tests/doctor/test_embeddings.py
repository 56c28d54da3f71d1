"""The doctor with a model, from image files to findings."""

import json
from pathlib import Path

import torch
from helpers.broken_sets import TRAIN, named

from reid_accel.config.schema import ModelConfig
from reid_accel.doctor.command import main
from reid_accel.files import read_text
from reid_accel.models.reid import Architecture, ReIDModel


def test_a_model_is_asked_about_all_readable_images(clean: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = ModelConfig(backbone="test_resnet", height_px=64, width_px=32, attributes=False)
    ReIDModel(Architecture(model=settings, num_identities=3)).save_pretrained(tmp_path / "model")
    damaged = named(clean, TRAIN, 7)
    damaged.write_bytes(damaged.read_bytes()[:100])
    words = ["--data.name", "market-layout", "--data.root", str(clean), "--data.cache-dir", str(tmp_path / "cache")]
    assert main([*words, "--dir", str(tmp_path / "out"), "--model", str(tmp_path / "model")]) == 0
    findings = {f["key"]: f for f in json.loads(read_text(tmp_path / "out/doctor.json"))["findings"]}
    assert findings["least-similar"]["num_images"] == 12
    assert damaged.name not in {image["name"] for image in findings["least-similar"]["images"]}
    assert "labels-not-judged" in findings  # nobody has trained it
    assert "probable-label-errors" not in findings
