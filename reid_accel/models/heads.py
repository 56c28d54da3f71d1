"""Necks and identity classifiers, between a backbone's pooled features and the losses.

To add one, write a class here, add it to `NECKS` or `CLASSIFIERS`, and add its name to `ModelConfig`'s choices.
Legend: B batch, P parts (stripes of the image), C pooled features of a part, U neck features of a part, D feature of
retrieval, E features that metric losses compare, I identities.
"""

import warnings
from collections.abc import Callable

import torch
import torch.nn as nn
from torch import Tensor

from reid_accel.config.schema import LossConfig
from reid_accel.models.metric_losses import arcface_logits, cosface_logits, cosine_logits


class PerPart(nn.ModuleList):
    """A separate layer for each part: B x P x in to B x P x out."""

    def __init__(self, num_parts: int, layer: Callable[[], nn.Module]) -> None:
        super().__init__(layer() for _ in range(num_parts))

    def forward(self, features_BPC: Tensor) -> Tensor:
        parts = zip(self, features_BPC.unbind(1), strict=True)
        return torch.stack([layer(feature_BC) for layer, feature_BC in parts], dim=1)


class FullyConnectedNeck(PerPart):
    """ReLU(BN(W x)), f of the course report. Metric losses compare the retrieval feature, including attributes."""

    classifier_has_bias = True

    def __init__(self, num_parts: int, pooled_features: int, units: int) -> None:
        super().__init__(
            num_parts,
            lambda: nn.Sequential(nn.Linear(pooled_features, units, bias=False), nn.BatchNorm1d(units), nn.ReLU()),
        )
        self.out_features = units

    def metric_features(self, feature_size: int) -> int:
        """E, for a feature of this size."""
        return feature_size

    def metric_feature(self, pooled_BPC: Tensor, feature_BD: Tensor) -> Tensor:
        """What metric losses compare, B x E."""
        return feature_BD


class BatchNormNeck(PerPart):
    """The BNNeck (Luo et al. 2019): batch norm without shift, so that the classifier's hyperplanes contain the origin.

    Metric losses use the features before it, retrieval and classification those after it.
    """

    classifier_has_bias = False

    def __init__(self, num_parts: int, pooled_features: int, units: int) -> None:
        super().__init__(num_parts, lambda: nn.BatchNorm1d(pooled_features))
        for norm in self:
            norm.bias.requires_grad_(False)
        self.out_features = pooled_features

    def metric_features(self, feature_size: int) -> int:
        """E, for a feature of this size."""
        return len(self) * self.out_features

    def metric_feature(self, pooled_BPC: Tensor, feature_BD: Tensor) -> Tensor:
        """What metric losses compare, B x E."""
        return pooled_BPC.flatten(1).float()


class LinearNeck(BatchNormNeck):
    """A linear layer before the BNNeck, which changes the feature's size (fast-reid, He et al. 2020)."""

    def __init__(self, num_parts: int, pooled_features: int, units: int) -> None:
        PerPart.__init__(
            self,
            num_parts,
            lambda: nn.Sequential(nn.Linear(pooled_features, units, bias=False), nn.BatchNorm1d(units)),
        )
        for layers in self:
            assert isinstance(layers, nn.Sequential)
            layers[1].bias.requires_grad_(False)
        self.out_features, self.pooled_features = units, pooled_features

    def metric_features(self, feature_size: int) -> int:
        """E, for a feature of this size."""
        return len(self) * self.pooled_features


class LinearClassifier(PerPart):
    """Logits W x, with a bias if the neck allows one."""

    def __init__(self, num_parts: int, in_features: int, num_identities: int, *, bias: bool) -> None:
        super().__init__(num_parts, lambda: _linear(in_features, num_identities, bias))

    def with_margin(self, logits_BI: Tensor, identity_B: Tensor, config: LossConfig) -> Tensor:
        """The logits to train with."""
        return logits_BI


class _CosineClassifier(PerPart):
    """Cosines between features and each identity's weights."""

    def __init__(self, num_parts: int, in_features: int, num_identities: int, *, bias: bool) -> None:
        super().__init__(num_parts, lambda: _linear(in_features, num_identities, bias=False))

    def forward(self, features_BPU: Tensor) -> Tensor:
        parts = zip(features_BPU.unbind(1), self.parameters(), strict=True)
        return torch.stack([cosine_logits(feature_BU, weight_IU) for feature_BU, weight_IU in parts], dim=1)


class ArcFaceClassifier(_CosineClassifier):
    """An additive margin on the angle (Deng et al. 2019)."""

    def with_margin(self, logits_BI: Tensor, identity_B: Tensor, config: LossConfig) -> Tensor:
        """The logits to train with: the right identity's angle is enlarged by the margin."""
        return arcface_logits(logits_BI, identity_B, config.classifier_margin, config.classifier_scale)


class CosFaceClassifier(_CosineClassifier):
    """An additive margin on the cosine (Wang et al. 2018)."""

    def with_margin(self, logits_BI: Tensor, identity_B: Tensor, config: LossConfig) -> Tensor:
        """The logits to train with: the right identity's cosine is lowered by the margin."""
        return cosface_logits(logits_BI, identity_B, config.classifier_margin, config.classifier_scale)


Neck = FullyConnectedNeck | BatchNormNeck | LinearNeck
Classifier = LinearClassifier | ArcFaceClassifier | CosFaceClassifier
NECKS: dict[str, type[Neck]] = {"fc": FullyConnectedNeck, "bn": BatchNormNeck, "linear": LinearNeck}
CLASSIFIERS: dict[str, type[Classifier]] = {
    "linear": LinearClassifier,
    "arcface": ArcFaceClassifier,
    "cosface": CosFaceClassifier,
}


def _linear(in_features: int, num_identities: int, bias: bool) -> nn.Module:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # an imported model has no identities
        layer = nn.Linear(in_features, num_identities, bias=bias)
    if not bias:
        nn.init.normal_(layer.weight, std=0.001)
    return layer
