"""The network: backbone, neck, attribute heads, re-weighting, identity classifier.

Section 3 of the course report, after Lin et al., "Improving person re-identification by attribute and identity
learning", Pattern Recognition 2019; the other neck is that of Luo et al., "Bag of tricks and a strong baseline for deep
person re-identification", CVPR workshops 2019.
Legend: B batch, P pooled features, D feature, I identities, A attribute groups, M attribute values in all.
"""

import contextlib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn as nn
from huggingface_hub import PyTorchModelHubMixin
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.data.augment import IMAGENET_MEAN, IMAGENET_STD, normalise
from reid_accel.data.images import ImageSize, as_array, enlarge, may_stay_small, to_float, to_pixels
from reid_accel.errors import InputError
from reid_accel.models.backbone import build_backbone, pooled_size
from reid_accel.models.metric_losses import cosine_logits

MODEL_FILES = ("config.json", "model.safetensors")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
Picture = Image.Image | npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """All that is needed to build the network again and to feed it: the content of `config.json`."""

    backbone: str
    last_stride: int = 2
    pooling: str = "avg"
    neck: str = "fc"
    neck_units: int = 512
    classifier: str = "linear"
    keeps_centres: bool = False
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
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))

    @property
    def num_attribute_values(self) -> int:
        """M: 41 for Market-1501's vocabulary."""
        return sum(len(group.values) for group in self.groups)


class Outputs(NamedTuple):
    """What one pass gives. attribute_scores_BM are the concatenated predictions before re-weighting.

    feature_BD is what retrieval compares. pair_feature_BE is what losses on pairs compare: the pooled features before
    batch norm with the neck `bn`, else the same. identity_logits_BI are cosines with a margin classifier.
    """

    feature_BD: Tensor
    pair_feature_BE: Tensor
    identity_logits_BI: Tensor
    attribute_logits: tuple[Tensor, ...]
    attribute_scores_BM: Tensor


class ReIDModel(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="reid_accel",
    tags=["person-re-identification", "pedestrian-attributes"],
):
    """Person re-identification with attributes: images in, features to compare and attribute logits out.

    f = ReLU(BN(W pool(backbone(image)))), one linear head per attribute group on f, scores a = softmax of
    each head, confidence c = sigmoid(V a + b), a' = c * a, feature = [f, a'] (report, equations 2 and 3). With the neck
    `bn`, f = BN(pool(backbone(image))) (Luo et al. 2019, section 3.6). The identity classifier on the feature serves
    training only.

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
        )
        pooled, num_values = pooled_size(self.backbone), architecture.num_attribute_values
        units = pooled if architecture.neck == "bn" else architecture.neck_units
        self.neck = _batch_norm_neck(pooled) if architecture.neck == "bn" else _report_neck(pooled, units)
        self.attribute_heads = nn.ModuleList(nn.Linear(units, len(group.values)) for group in architecture.groups)
        self.reweighting = nn.Linear(num_values, num_values) if architecture.reweight and num_values else None
        self.feature_size = units + num_values
        is_report = architecture.neck == "fc" and architecture.classifier == "linear"
        self.identity_classifier = nn.Linear(self.feature_size, architecture.num_identities, bias=is_report)
        if not is_report:
            nn.init.normal_(self.identity_classifier.weight, std=0.001)
        if architecture.keeps_centres:
            size = pooled if architecture.neck == "bn" else self.feature_size
            self.centre_IE = nn.Buffer(torch.zeros(architecture.num_identities, size))
        self.freeze_statistics = False

    def train(self, mode: bool = True) -> "ReIDModel":
        """As torch has it; with `freeze_statistics` batch norm keeps to its running statistics while training."""
        super().train(mode)
        if self.freeze_statistics:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, images_B3HW: Tensor) -> Outputs:
        """Normalised float images, B x 3 x H x W, to `Outputs`."""
        pooled_BP = self.backbone(images_B3HW)
        neck_BD = self.neck(pooled_BP)
        logits = tuple(head(neck_BD) for head in self.attribute_heads)
        # scores and feature in float32: under autocast the heads give 16 bits, too few to rank by
        scores_BM = self._scores(logits, neck_BD)
        parts = [neck_BD.float(), scores_BM]
        if self.reweighting is not None:
            parts[1] = torch.sigmoid(self.reweighting(scores_BM).float()) * scores_BM
        feature_BD = torch.cat(parts, dim=1)
        pair_feature_BE = pooled_BP.float() if self.architecture.neck == "bn" else feature_BD
        return Outputs(feature_BD, pair_feature_BE, self._identity_logits(feature_BD), logits, scores_BM)

    def _identity_logits(self, feature_BD: Tensor) -> Tensor:
        if self.architecture.classifier == "linear":
            logits_BI: Tensor = self.identity_classifier(feature_BD)
            return logits_BI
        return cosine_logits(feature_BD, self.identity_classifier.weight)

    def _scores(self, logits: tuple[Tensor, ...], neck_BD: Tensor) -> Tensor:
        if not logits:
            return neck_BD.new_empty((len(neck_BD), 0), dtype=torch.float32)
        if self.architecture.attribute_scores == "logits":
            return torch.cat([logit.float() for logit in logits], dim=1)
        return torch.cat([logit.float().softmax(1) for logit in logits], dim=1)

    def prepare(self, images: Sequence[Picture]) -> Tensor:
        """Pictures to the network's normalised input, with the stored preprocessing, on the model's device.

        images: PIL images of any mode and size, or uint8 arrays H x W x 3 (RGB).
        Raises InputError for arrays of another shape or type.
        """
        settings, device = self.architecture, next(self.parameters()).device
        stored = [_as_stored(_as_rgb(image), settings) for image in images]
        sized = [enlarge(to_float(torch.tensor(pixels, device=device)[None]), settings) for pixels in stored]
        return normalise(torch.cat(sized), settings.mean, settings.std)

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
    folder = Path(name)
    if not folder.is_dir() and _HUB_NAME.fullmatch(str(name)) is None:
        raise InputError(f"there is no model folder {folder}; a run keeps its model in RUN/model")
    missing = [file for file in MODEL_FILES if folder.is_dir() and not (folder / file).is_file()]
    if missing:
        raise InputError(f"{folder} is not a model: it lacks {' and '.join(missing)}")
    try:
        with contextlib.redirect_stdout(None):  # the hub's client prints where it loads from
            return ReIDModel.from_pretrained(name)
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise InputError(f"the model {name} cannot be loaded: {str(error).strip().splitlines()[0]}") from error


def on_device(model: ReIDModel, device: torch.device) -> ReIDModel:
    """The model on a device, in the memory order that convolutions are fastest in."""
    model.to(device)
    return model.to(memory_format=torch.channels_last)


def model_fingerprint(model: ReIDModel) -> str:
    """A hash of architecture and weights: equal for models that embed alike."""
    digest = hashlib.sha256(repr(model.architecture).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
