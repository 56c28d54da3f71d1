"""One training step on two made images: a backbone that can't be trained is found before any image is decoded."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import timm
import torch

from reid_accel.config.schema import ModelConfig
from reid_accel.errors import InputError, first_line
from reid_accel.models.architecture import Architecture
from reid_accel.models.ibn import plain_name
from reid_accel.models.reid import ReIDModel, on_device

NUM_IDENTITIES = 2
FAILURES = (
    RuntimeError,  # and NotImplementedError
    AssertionError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
)
"""What backbones raise for an input size or a head that they aren't made for."""


def require_trainable(settings: ModelConfig, device: torch.device) -> None:
    """Raise InputError unless a network of these settings does a forward and a backward pass on the device.

    The network is a new one with random weights. The state of the random number generators is restored.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        problem = _problem(settings, device)
        remedy = _remedy(settings, device) if problem is not None else ""
    if devices:
        torch.cuda.empty_cache()
    if problem is not None:
        raise InputError(
            f"the backbone {settings.backbone} cannot be trained on images of {settings.height_px} x "
            f"{settings.width_px} pixels{_described(settings)} ({problem}): {remedy}"
        )


def _problem(settings: ModelConfig, device: torch.device) -> str | None:
    """What a training step says when it fails; None if it works."""
    try:
        _step(settings, device)
    except InputError:
        raise
    except FAILURES as error:
        return first_line(error)
    return None


def _step(settings: ModelConfig, device: torch.device) -> None:
    network = ReIDModel(Architecture(model=replace(settings, weights_file=None), num_identities=NUM_IDENTITIES))
    network = on_device(network, device).train()
    images_B3HW = torch.rand(2, 3, settings.height_px, settings.width_px, device=device)
    outputs = network(images_B3HW.contiguous(memory_format=torch.channels_last))
    losses = (outputs.feature_BD, outputs.metric_feature_BE, outputs.identity_logits_BPI)
    torch.stack([each.float().mean() for each in losses]).sum().backward()


def _described(settings: ModelConfig) -> str:
    return f" with stripes {' '.join(map(str, settings.stripes))}" if settings.stripes != (1,) else ""


def _remedy(settings: ModelConfig, device: torch.device) -> str:
    """The first change of settings with which a training step works."""
    for change in _changes(settings):
        try:
            works = _problem(replace(settings, **change), device) is None
        except InputError:
            works = False
        if works:
            return f"set {' '.join(_flag(name, value) for name, value in change.items())}, or choose another backbone"
    return "choose another --model.backbone"


def _changes(settings: ModelConfig) -> Iterator[dict[str, Any]]:
    """Global instead of striped pooling, the square around the input size, and the size that timm made it for."""
    if settings.stripes != (1,):
        yield {"stripes": (1,)}
    if settings.pooling != "avg":
        yield {"pooling": "avg"}
    side = max(settings.height_px, settings.width_px)
    yield {"height_px": side, "width_px": side}
    pretrained = timm.get_pretrained_cfg(plain_name(settings.backbone) or settings.backbone, allow_unregistered=True)
    if pretrained is not None:
        yield {"height_px": pretrained.input_size[1], "width_px": pretrained.input_size[2]}


def _flag(name: str, value: Any) -> str:
    values = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return f"--model.{name.replace('_', '-')} {values}"
