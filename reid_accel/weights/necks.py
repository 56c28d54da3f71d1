"""The layers between a backbone's pooled features and the retrieval feature, from other trainers' tensors."""

import torch
from torch import Tensor

from reid_accel.weights.recognized import Tensors

BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
NECK = "neck.0."
EPSILON = 1e-5  # of torch's batch norm


def batch_norm_names(tensors: Tensors, theirs: str, ours: str = NECK) -> dict[str, str]:
    """Our names of a batch norm's tensors -> theirs, as far as the file has them."""
    return {ours + part: theirs + part for part in BATCH_NORM if theirs + part in tensors}


def identity_norm(num_features: int, ours: str = NECK) -> dict[str, Tensor]:
    """A batch norm that changes nothing: the neck of a model whose feature is the one before it."""
    values = {
        "weight": torch.full((num_features,), (1 + EPSILON) ** 0.5),
        "bias": torch.zeros(num_features),
        "running_mean": torch.zeros(num_features),
        "running_var": torch.ones(num_features),
        "num_batches_tracked": torch.tensor(0),
    }
    return {ours + part: value for part, value in values.items()}


FULLY_CONNECTED_LEFT_OUT = {r"fc\.0\.bias|fc\.1\.running_mean": "combined into the neck's running mean"}


def fully_connected_names(tensors: Tensors) -> dict[str, str]:
    """The neck of torchreid's fully connected layer, as far as ours takes its tensors unchanged."""
    norm = batch_norm_names(tensors, "fc.1.", "neck.0.1.")
    return {"neck.0.0.weight": "fc.0.weight"} | {k: v for k, v in norm.items() if not k.endswith("running_mean")}


def fully_connected_made(tensors: Tensors) -> dict[str, Tensor]:
    """Ours has no bias before its batch norm: a smaller running mean is the same function."""
    return {"neck.0.1.running_mean": tensors["fc.1.running_mean"].float() - tensors["fc.0.bias"].float()}


def fully_connected_settings(tensors: Tensors) -> dict[str, object]:
    """The settings of torchreid's fully connected layer."""
    return {"neck": "fc", "neck_units": len(tensors["fc.0.weight"])}
