"""The network as it is exported: from pixels, or normalized pixels, to the features that retrieval compares.

Legend: B batch, D feature, H W pixels, V values of an attribute group.
"""

import re
from collections.abc import Sequence
from copy import deepcopy

import torch
import torch.nn as nn
from torch import Tensor

from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.augment.ops import IMAGENET_MEAN, IMAGENET_STD
from reid_accel.config.export_graph import GraphOptions
from reid_accel.errors import InputError
from reid_accel.models.architecture import Architecture
from reid_accel.models.heads import LinearClassifier
from reid_accel.models.reid import ReIDModel

Normalization = tuple[tuple[float, ...], tuple[float, ...]]

SMALLEST_LENGTH = 1e-12  # as in torch.nn.functional.normalize


class ExportGraph(nn.Module):
    """Float images, B x 3 x H x W, to the feature, B x D, and the probabilities of each attribute group, B x V.

    The input is what `options` say; the outputs are float32. The identity classifier is no part of it.
    """

    def __init__(self, model: ReIDModel, options: GraphOptions) -> None:
        super().__init__()
        architecture = model.architecture
        if options.with_attributes and not architecture.groups:
            raise InputError("this model was trained without attributes: export it without --with-attributes")
        self.network = without_identities(model)
        self.options = options
        self.unit_length = has_unit_length(options, architecture.metric)
        self.dtype = torch.float16 if options.half else torch.float32
        self.network.to(self.dtype)
        own = callers_normalization(architecture, options) == (architecture.mean, architecture.std)
        self.normalizes = options.flavor == "inside" or not own
        self.mean, self.std = (nn.Buffer(values_1311) for values_1311 in _normalization(architecture, options))
        self.eval().requires_grad_(False)

    def forward(self, images_B3HW: Tensor) -> Tensor | tuple[Tensor, ...]:
        images = images_B3HW
        if self.options.bgr:
            images = torch.cat([images[:, 2:3], images[:, 1:2], images[:, 0:1]], dim=1)
        if self.normalizes:
            images = (images - self.mean) / self.std
        outputs = self.network(images.to(self.dtype))
        feature_BD = outputs.feature_BD.float()
        if self.unit_length:
            feature_BD = feature_BD / feature_BD.norm(dim=1, keepdim=True).clamp_min(SMALLEST_LENGTH)
        if not self.options.with_attributes:
            return feature_BD
        return (feature_BD, *(logit.float().softmax(1) for logit in outputs.attribute_logits))


def callers_normalization(architecture: Architecture, options: GraphOptions) -> Normalization:
    """The mean and deviation of a caller who normalizes, and the model's own where the graph does."""
    return (IMAGENET_MEAN, IMAGENET_STD) if options.caller == "imagenet" else (architecture.mean, architecture.std)


def _normalization(architecture: Architecture, options: GraphOptions) -> tuple[Tensor, Tensor]:
    """What the graph subtracts from its input and divides it by, each 1 x 3 x 1 x 1."""
    mean, std = torch.tensor(architecture.mean), torch.tensor(architecture.std)
    if options.flavor == "inside":
        mean, std = mean * options.pixel_range, std * options.pixel_range
    else:  # (input * caller's deviation + caller's mean - mean) / deviation
        callers_mean, callers_std = map(torch.tensor, callers_normalization(architecture, options))
        mean, std = (mean - callers_mean) / callers_std, std / callers_std
    return mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)


def has_unit_length(options: GraphOptions, metric: str) -> bool:
    """Whether the graph's features have unit length."""
    return options.unit_length == "on" or (options.unit_length == "auto" and metric == "cosine")


def without_identities(model: ReIDModel) -> ReIDModel:
    """A float32 copy on the CPU, in evaluation mode, without all that belongs to the training set's identities."""
    copy = deepcopy(model).cpu().float()
    units = copy.neck.out_features + copy.architecture.num_attribute_values
    copy.identity_classifier = LinearClassifier(copy.architecture.num_parts, units, 0, bias=False)
    if hasattr(copy, "center_IE"):
        del copy.center_IE
    return copy.eval().to(memory_format=torch.contiguous_format)


def attribute_outputs(groups: Sequence[AttributeGroup]) -> tuple[str, ...]:
    """The names of the attribute groups' outputs.

    >>> attribute_outputs([AttributeGroup("hat", ("no", "yes")), AttributeGroup("upper color", ("red", "blue"))])
    ('attribute_hat', 'attribute_upper_color')
    """
    names: list[str] = []
    for group in groups:
        name = "attribute_" + re.sub(r"\W", "_", group.name, flags=re.ASCII)
        names.append(name if name not in names else f"{name}_{len(names)}")
    return tuple(names)
