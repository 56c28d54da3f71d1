"""The network: backbone, neck, attribute heads, re-weighting, identity classifier.

Section 3 of the course report, after Lin et al., "Improving person re-identification by attribute and identity
learning", Pattern Recognition 2019; the other neck is that of Luo et al., "Bag of tricks and a strong baseline for deep
person re-identification", CVPR workshops 2019. Both may be had for each of several horizontal stripes (Sun et al.,
"Beyond part models", ECCV 2018).
Legend: B batch, P parts (1, or stripes of the image), C pooled features of a part, U units of a part's neck, D feature,
I identities, A attribute groups, M attribute values in all.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn as nn
from huggingface_hub import PyTorchModelHubMixin
from PIL import Image
from safetensors import SafetensorError
from timm.layers import convert_sync_batchnorm
from torch import Tensor

from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.augment.ops import IMAGENET_MEAN, IMAGENET_STD, normalize
from reid_accel.data.images import ImageSize, as_array, enlarge, may_stay_small, to_float, to_pixels
from reid_accel.errors import InputError
from reid_accel.models.backbone import build_backbone, pooled_size
from reid_accel.models.metric_losses import cosine_logits
from reid_accel.models.model_folder import check_model_name

Picture = Image.Image | npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """All that is needed to build the network again and to feed it: the content of `config.json`."""

    backbone: str
    last_stride: int = 2
    pooling: str = "avg"
    stripes: tuple[int, ...] = (1,)
    neck: str = "fc"
    neck_units: int = 512
    classifier: str = "linear"
    keeps_centers: bool = False
    groups: tuple[AttributeGroup, ...] = ()
    reweight: bool = True
    attribute_scores: str = "probabilities"
    num_identities: int = 0
    metric: str = "euclidean"
    height_px: int = 256
    width_px: int = 128
    interpolation: str = "bilinear"
    fit: str = "stretch"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        # JSON gives lists and dicts back where tuples and dataclasses went in
        groups = tuple(g if isinstance(g, AttributeGroup) else AttributeGroup(**g) for g in self.groups)
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "stripes", tuple(self.stripes))
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))

    @property
    def num_parts(self) -> int:
        """P: all stripes together; 1 for the usual global pooling."""
        return sum(self.stripes)

    @property
    def num_attribute_values(self) -> int:
        """M: 41 for Market-1501's vocabulary."""
        return sum(len(group.values) for group in self.groups)


class Outputs(NamedTuple):
    """What one pass gives. attribute_scores_BM are the concatenated predictions before re-weighting.

    feature_BD is what retrieval compares. metric_feature_BE is what losses on pairs compare: the pooled features before
    batch norm with the neck `bn`, else the same. identity_logits_BPI has a classifier's logits for each part (cosines
    with a margin classifier).
    """

    feature_BD: Tensor
    metric_feature_BE: Tensor
    identity_logits_BPI: Tensor
    attribute_logits: tuple[Tensor, ...]
    attribute_scores_BM: Tensor


class PerPart(nn.ModuleList):
    """A layer of its own for each part: B x P x C to B x P x outputs."""

    def forward(self, features_BPC: Tensor) -> Tensor:
        parts = zip(self, features_BPC.unbind(1), strict=True)
        return torch.stack([layer(feature_BC) for layer, feature_BC in parts], dim=1)


class ReIDModel(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="reid_accel",
    tags=["person-re-identification", "pedestrian-attributes"],
):
    """Person re-identification with attributes: images in, features to compare and attribute logits out.

    f = ReLU(BN(W pool(backbone(image)))), one linear head per attribute group on f, scores a = softmax of
    each head, confidence c = sigmoid(V a + b), a' = c * a, feature = [f, a'] (report, equations 2 and 3). With the neck
    `bn`, f = BN(pool(backbone(image))) (Luo et al. 2019, section 3.6). With stripes, f is the necks' outputs side by
    side, and each part's identity classifier sees [f of the part, a']. Identity classifiers serve training only.

    >>> architecture = Architecture(backbone="resnet10t", neck_units=16, num_identities=3)
    >>> model = ReIDModel(architecture).eval()
    >>> model.embed([np.zeros((128, 64, 3), np.uint8)]).shape
    torch.Size([1, 16])
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        if isinstance(architecture, dict):  # from a config.json
            architecture = Architecture(**architecture)
        self.architecture = architecture
        self.backbone = build_backbone(
            architecture.backbone,
            last_stride=architecture.last_stride,
            height_px=architecture.height_px,
            width_px=architecture.width_px,
            pooling=architecture.pooling,
            stripes=architecture.stripes,
        )
        parts, num_values = architecture.num_parts, architecture.num_attribute_values
        pooled, is_bn = pooled_size(self.backbone), architecture.neck == "bn"
        units = pooled if is_bn else architecture.neck_units
        self.neck = PerPart(_batch_norm_neck(pooled) if is_bn else _report_neck(pooled, units) for _ in range(parts))
        self.attribute_heads = nn.ModuleList(
            nn.Linear(parts * units, len(group.values)) for group in architecture.groups
        )
        self.reweighting = nn.Linear(num_values, num_values) if architecture.reweight and num_values else None
        self.feature_size = parts * units + num_values
        is_report = not is_bn and architecture.classifier == "linear"
        size, identities = units + num_values, architecture.num_identities
        self.identity_classifier = PerPart(
            nn.Linear(size, identities) if is_report else _classifier_without_bias(size, identities)
            for _ in range(parts)
        )
        if architecture.keeps_centers:
            size = parts * pooled if is_bn else self.feature_size
            self.center_IE = nn.Buffer(torch.zeros(architecture.num_identities, size))
        self.freeze_statistics = False

    @classmethod
    def _from_pretrained(cls, *, strict: bool = True, **given: Any) -> "ReIDModel":
        """The hub's way, but strict unless told otherwise: missing weights would stay random without a word."""
        model = super()._from_pretrained(strict=strict, **given)
        assert isinstance(model, cls)
        return model

    def train(self, mode: bool = True) -> "ReIDModel":
        """As torch has it; with `freeze_statistics` the backbone's batch norm keeps to its running statistics.

        The neck's doesn't: it comes with none, and untouched ones would leave features as they are.
        """
        super().train(mode)
        if self.freeze_statistics:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, images_B3HW: Tensor) -> Outputs:
        """Normalized float images, B x 3 x H x W, to `Outputs`."""
        pooled_BPC = self.backbone(images_B3HW).unflatten(1, (-1, self.architecture.num_parts)).transpose(1, 2)
        neck_BPU = self.neck(pooled_BPC)
        neck_BD = neck_BPU.flatten(1)
        logits = tuple(head(neck_BD) for head in self.attribute_heads)
        # scores and feature in float32: under autocast the heads give 16 bits, too few to rank by
        scores_BM = self._scores(logits, neck_BD)
        reweighted_BM = scores_BM
        if self.reweighting is not None:
            reweighted_BM = torch.sigmoid(self.reweighting(scores_BM).float()) * scores_BM
        feature_BD = torch.cat([neck_BD.float(), reweighted_BM], dim=1)
        metric_feature_BE = pooled_BPC.flatten(1).float() if self.architecture.neck == "bn" else feature_BD
        logits_BPI = self._identity_logits(neck_BPU.float(), reweighted_BM)
        return Outputs(feature_BD, metric_feature_BE, logits_BPI, logits, scores_BM)

    def _identity_logits(self, neck_BPU: Tensor, reweighted_BM: Tensor) -> Tensor:
        seen_BPU = torch.cat([neck_BPU, reweighted_BM[:, None].expand(-1, neck_BPU.shape[1], -1)], dim=2)
        if self.architecture.classifier == "linear":
            logits_BPI: Tensor = self.identity_classifier(seen_BPU)
            return logits_BPI
        pairs = zip(seen_BPU.unbind(1), self.identity_classifier.parameters(), strict=True)
        return torch.stack([cosine_logits(seen_BU, weight_IU) for seen_BU, weight_IU in pairs], dim=1)

    def _scores(self, logits: tuple[Tensor, ...], neck_BD: Tensor) -> Tensor:
        if not logits:
            return neck_BD.new_empty((len(neck_BD), 0), dtype=torch.float32)
        if self.architecture.attribute_scores == "logits":
            return torch.cat([logit.float() for logit in logits], dim=1)
        return torch.cat([logit.float().softmax(1) for logit in logits], dim=1)

    def prepare(self, images: Sequence[Picture]) -> Tensor:
        """Pictures to the network's normalized input, with the stored preprocessing, on the model's device.

        images: PIL images of any mode and size, or uint8 arrays H x W x 3 (RGB).
        Raises InputError for arrays of another shape or type.
        """
        settings, device = self.architecture, next(self.parameters()).device
        stored = [_as_stored(_as_rgb(image), settings) for image in images]
        sized = [enlarge(to_float(torch.tensor(pixels, device=device)[None]), settings) for pixels in stored]
        return normalize(torch.cat(sized), settings.mean, settings.std)

    @torch.no_grad()
    def embed(self, images: Sequence[Picture]) -> Tensor:
        """Features to compare, B x D, float32, of PIL images or uint8 arrays H x W x 3.

        Unit length where the model's metric is cosine. Puts the model into evaluation mode.
        """
        self.eval()
        feature_BD = self(self.prepare(images)).feature_BD
        return comparable(feature_BD, self.architecture.metric)

    @torch.no_grad()
    def attributes(self, images: Sequence[Picture]) -> list[dict[str, str]]:
        """The attributes seen on each image, e.g. [{"age": "adult", "hat": "no", ...}].

        Raises InputError when the model was trained without attributes. Puts the model into evaluation mode.
        """
        groups = self.architecture.groups
        if not groups:
            raise InputError("this model was trained without attributes")
        self.eval()
        logits = self(self.prepare(images)).attribute_logits
        chosen = torch.stack([logit.argmax(1) for logit in logits], dim=1).tolist()
        return [{group.name: group.values[index] for group, index in zip(groups, row, strict=True)} for row in chosen]


def _report_neck(pooled: int, units: int) -> nn.Module:
    return nn.Sequential(nn.Linear(pooled, units, bias=False), nn.BatchNorm1d(units), nn.ReLU())


def _batch_norm_neck(pooled: int) -> nn.Module:
    """Batch norm without shift, so that the classifier's planes go through the origin (Luo et al. 2019)."""
    neck = nn.BatchNorm1d(pooled)
    neck.bias.requires_grad_(False)
    return neck


def _classifier_without_bias(size: int, identities: int) -> nn.Module:
    classifier = nn.Linear(size, identities, bias=False)
    nn.init.normal_(classifier.weight, std=0.001)
    return classifier


def _as_stored(image: Image.Image, size: ImageSize) -> npt.NDArray[np.uint8]:
    return as_array(image) if may_stay_small(*image.size, size) else to_pixels(image, size)


def comparable(feature_BD: Tensor, metric: str) -> Tensor:
    """Features as retrieval compares them: unit length for cosine, as they are for euclidean."""
    return nn.functional.normalize(feature_BD, dim=1) if metric == "cosine" else feature_BD


def _as_rgb(image: Picture) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"an image array must be uint8, H x W x 3 (RGB), got {image.dtype} {image.shape}")
    return Image.fromarray(image)


def load_model(name: str | Path) -> ReIDModel:
    """`ReIDModel.from_pretrained` of a folder, or of a hub's user/name, with a sentence when it isn't there."""
    check_model_name(name)
    try:
        with contextlib.redirect_stdout(None):  # the hub's client prints where it loads from
            return ReIDModel.from_pretrained(name)
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise InputError(f"the model {name} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    except RuntimeError as error:  # torch's list of tensors that don't fit
        misfit = " ".join(str(error).split())
        raise InputError(
            f"the weights of the model {name} are not those of the network that its config.json describes, as when it "
            f"comes from another version: {misfit[:300]}{'...' if len(misfit) > 300 else ''}"
        ) from error


def on_device(model: ReIDModel, device: torch.device) -> ReIDModel:
    """The model on a device, in the memory order that convolutions are fastest in."""
    model.to(device)
    return model.to(memory_format=torch.channels_last)


def synchronized(model: ReIDModel) -> ReIDModel:
    """The model with batch statistics over the images of all processes; for GPUs.

    By timm: torch's own conversion drops the activations that timm's networks have inside their batch norms.
    """
    converted = convert_sync_batchnorm(model)
    assert isinstance(converted, ReIDModel)
    return converted


def model_fingerprint(model: ReIDModel) -> str:
    """A hash of architecture and weights: equal for models that embed alike."""
    digest = hashlib.sha256(repr(model.architecture).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
