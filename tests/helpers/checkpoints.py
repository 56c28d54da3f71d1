"""A tiny network and its checkpoints."""

from pathlib import Path

import torch

from reid_accel.training.checkpoint import RunFingerprint, TrainingState, save_checkpoint
from reid_accel.training.progress import Progress

SETTINGS = {section: {"value": 1} for section in ("data", "model", "loss", "optim", "augment", "train")}
IDENTITY = RunFingerprint(SETTINGS, "images")
KINDS = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1, betas=(0.8, 0.9)),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.1),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
}


def network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten())
    return layers.to(memory_format=torch.channels_last)


def save(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> Path:
    return save_checkpoint(folder, TrainingState(model, optimizer), progress, IDENTITY, keep=2)
