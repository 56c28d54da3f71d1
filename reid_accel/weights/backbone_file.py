"""A backbone's weights as a .safetensors file that `model.weights-file` takes, with its normalization."""

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from reid_accel.weights.recognized import Recognized, Tensors


def write_backbone(path: Path, found: Recognized, stored: Tensors) -> None:
    """Write a recognized backbone, classifier included, by its own names."""
    tensors = as_float32(found.tensors(stored))
    metadata = {
        "format": "pt",
        "backbone": str(found.model["backbone"]),
        "scheme": found.scheme,
        "normalization": json.dumps(found.normalization),
    }
    save_file({name.removeprefix("backbone."): value for name, value in tensors.items()}, path, metadata)


def as_float32(tensors: Tensors) -> dict[str, Tensor]:
    """Contiguous tensors, floating ones in float32."""
    floats = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    return _unshared({name: value.detach().contiguous() for name, value in floats.items()})


def _unshared(tensors: Tensors) -> dict[str, Tensor]:
    """Tensors each with memory of its own, as safetensors needs them."""
    own, seen = {}, set()
    for name, value in tensors.items():
        place = value.untyped_storage().data_ptr()
        own[name] = value.clone() if place in seen else value
        seen.add(place)
    return own
