"""Small networks to export, with statistics that are no identity."""

from dataclasses import fields
from pathlib import Path

import torch

from reid_accel import ReIDModel
from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.config.schema import ModelConfig
from reid_accel.models.reid import Architecture

GROUPS = (AttributeGroup("hat", ("no", "yes")), AttributeGroup("upper color", ("red", "green", "blue")))
SMALL = {"backbone": "test_resnet", "height_px": 64, "width_px": 32, "metric": "cosine", "pretrained": False}


def small_model(**changes: object) -> ReIDModel:
    """A network as if trained: settings of the model or of the architecture can be changed."""
    of_model = {field.name for field in fields(ModelConfig)}
    settings = SMALL | {name: value for name, value in changes.items() if name in of_model}
    rest = {"num_identities": 5} | {name: value for name, value in changes.items() if name not in of_model}
    torch.manual_seed(0)
    model = ReIDModel(Architecture(model=ModelConfig(**settings), **rest))  # type: ignore[arg-type]
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def saved(folder: Path, **changes: object) -> Path:
    """The model folder of a small network."""
    small_model(**changes).save_pretrained(folder / "model")
    return folder / "model"
