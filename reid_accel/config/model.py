"""Settings of the network and of its loss."""

import math
from dataclasses import dataclass
from typing import Literal

from reid_accel.config.checks import check, check_choices, check_each, expand_homes

MARGIN_LIMITS = {"linear": math.inf, "arcface": math.pi, "cosface": 2.0}
"""By classifier, what `loss.classifier_margin` must be below: arcface's is an angle, cosface's a cosine."""

MAX_SIDE_PX = 4096


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network: backbone, neck, attribute heads, re-weighting, identity classifier."""

    backbone: str = "resnet50"
    """Any timm model name, a timm ResNet's name followed by `_ibn_a` (IBN-a), or `osnet_x0_25` to `osnet_x1_0`."""
    module: str | None = None
    """Python module to import first, which registers your own `backbone` with timm (`timm.models.register_model`)."""
    pretrained: bool = True
    """Start from timm's ImageNet weights (downloaded once)."""
    weights_file: str | None = None
    """Initialize the backbone from this local .safetensors file instead of downloading weights: a timm model, a model
    trained by this package (RUN/model/model.safetensors), what `reid-accel import-weights` wrote, or `package:NAME`
    with ImageNet weights from a Python package (`package:efficientnet-lite0`; needs `reid_accel[imagenet]`)."""
    height_px: int = 256
    """Input height."""
    width_px: int = 128
    """Input width."""
    interpolation: Literal["bilinear", "bicubic", "cv2"] = "bilinear"
    """Interpolation of the resize, antialiased by `bilinear` and `bicubic` (Pillow's). `cv2`: as OpenCV's INTER_LINEAR,
    without antialiasing, for a model that goes into a tracker which resizes like that."""
    fit: Literal["stretch", "letterbox"] = "stretch"
    """Resize to the input shape (`stretch`, as in the literature), or keep the aspect ratio and pad (`letterbox`)."""
    last_stride: Literal[1, 2] = 2
    """Last stride of a convolutional network (ResNets, EfficientNets, MobileNets, RegNets, ConvNeXts, ...); 1 doubles
    the resolution of the last map (Luo et al. 2019), without dilation."""
    stem: Literal["relu", "no-relu", "ceil-pool"] = "relu"
    """Stem of a ResNet: `relu` is He et al.'s, `no-relu` lacks the ReLU before the max pooling, as the code of Luo et
    al. 2019 does, `ceil-pool` rounds the pooling's size up, as fast-reid does."""
    patch_stride: int | None = None
    """Stride of a ViT's patches; below the patch size they overlap (12 in He et al. 2021). Unset: the patch size."""
    drop_path: float = 0.0
    """Largest probability of dropping a block in training (stochastic depth, Huang et al. 2016; 0.1 in TransReID)."""
    camera_embedding: float = 0.0
    """Factor of a learned vector per camera that a ViT adds to its tokens (side information embedding, He et al. 2021:
    3.0); 0: none. Images of unknown cameras, and of cameras that the training set lacks, get the mean vector."""
    pooling: Literal["avg", "max", "gem"] = "avg"
    """Global pooling of convolutional networks: average, maximum, or generalized mean (Radenovic et al. 2019)."""
    stripes: tuple[int, ...] = (1,)
    """Horizontal stripes to pool, each with its own neck and identity classifier: 1 for global pooling only, `1 2 4`
    for global, halves and quarters (Fu et al. 2019), 6 as in Sun et al. 2018."""
    neck: Literal["fc", "bn", "linear"] = "fc"
    """Layer after pooling: `fc` is the course report's fully connected layer, `bn` is the BNNeck (Luo et al. 2019):
    metric losses use the features before batch norm, classification and retrieval those after it; `linear` is a linear
    layer to `neck_units` before the BNNeck (He et al. 2020)."""
    neck_feature: Literal["after", "before"] = "after"
    """Feature that retrieval compares: after the BNNeck, or before it as in TransReID."""
    neck_units: int = 512
    """Output size of the necks `fc` and `linear` per stripe."""
    classifier: Literal["linear", "arcface", "cosface"] = "linear"
    """Identity classifier: linear, ArcFace (Deng et al. 2019) or CosFace (Wang et al. 2018)."""
    attributes: bool = True
    """Train attribute heads if the data set has attributes."""
    reweight: bool = True
    """Re-weight attribute scores by a learned confidence (Lin et al. 2019, section 4.2)."""
    attribute_scores: Literal["probabilities", "logits"] = "probabilities"
    """Output of the attribute heads that is re-weighted and appended to the feature."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """Distance used for retrieval."""

    def __post_init__(self) -> None:
        check_choices(self, "model")
        expand_homes(self, ("weights_file",))
        object.__setattr__(self, "stripes", tuple(self.stripes))
        counts, most = self.stripes, self.height_px // 16  # rows of the last feature map, where it has many
        check(
            bool(counts) and all(0 < count <= most for count in counts),
            "model.stripes",
            f"numbers from 1 to {most} at model.height-px {self.height_px}",
            counts,
        )
        for name, value in (("model.height-px", self.height_px), ("model.width-px", self.width_px)):
            check(value > 0 and value % 32 == 0, name, "a positive multiple of 32", value)
            check(value <= MAX_SIDE_PX, name, f"at most {MAX_SIDE_PX}", value)
        check(0 <= self.drop_path < 1, "model.drop-path", "in [0, 1)", self.drop_path)
        before, has_neck = self.neck_feature == "before", self.neck != "fc"
        check(has_neck or not before, "model.neck-feature", "after with model.neck fc", self.neck_feature)
        check(self.neck_units > 0, "model.neck-units", "positive", self.neck_units)
        stride = self.patch_stride
        check(stride is None or stride > 0, "model.patch-stride", "positive", stride)
        check(self.camera_embedding >= 0, "model.camera-embedding", "0 or more", self.camera_embedding)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the loss terms; 0 turns a term off (`attributes`: the attribute heads, too)."""

    identity: float = 1.0
    """Weight of the identity cross-entropy."""
    attributes: float = 1.0
    """Weight of the attribute cross-entropies, reduced over groups by `attribute_reduction`."""
    attribute_reduction: Literal["sum", "mean"] = "mean"
    """Sum or mean of the cross-entropies over attribute groups."""
    balance_attributes: bool = False
    """Class-balanced attribute loss: weight values by inverse frequency."""
    label_smoothing: float = 0.0
    """Label smoothing of the identity loss (0.1 in Luo et al. 2019)."""
    stripe_reduction: Literal["mean", "sum"] = "mean"
    """Mean or sum of the identity losses of the stripes (`sum`: Sun et al. 2018, Fu et al. 2019)."""
    classifier_margin: float = 0.35
    """Margin of the classifier: an angle in radians for arcface (0.5 in the paper), a cosine for cosface (0.35)."""
    classifier_scale: float = 30.0
    """Scale of the cosine logits of arcface and cosface."""
    triplet: float = 0.0
    """Weight of the batch-hard triplet loss (Hermans et al. 2017); needs train.images-per-identity."""
    triplet_margin: float = 0.3
    """Margin of the triplet loss; 0: soft margin."""
    circle: float = 0.0
    """Weight of the circle loss (Sun et al. 2020); needs train.images-per-identity."""
    circle_margin: float = 0.25
    """Margin m of the circle loss."""
    circle_scale: float = 64.0
    """Scale gamma of the circle loss."""
    center: float = 0.0
    """Weight of the center loss (Wen et al. 2016; 0.0005 in Luo et al. 2019)."""
    center_rate: float = 0.5
    """Update rate of the centers."""
    center_update: Literal["average", "sgd"] = "average"
    """Update of the centers. `average`: towards the mean of the identity's images in the batch, from 0 (Wen et al.
    2016, eq. 4). `sgd`: a gradient step on the batch's mean squared distance, from normal random numbers, as in the
    code of Luo et al. 2019; at 4 of 64 images and rate 0.5, a center moves by 0.0625 of its distance, not 0.4."""
    pairs_across_processes: bool = True
    """Metric losses compare the images of all processes, so that they don't depend on the number of processes; else
    only those of the same process."""

    @property
    def trains_identities(self) -> bool:
        """Whether any loss term separates identities."""
        return self.identity + self.triplet + self.circle > 0

    @property
    def uses_pairs(self) -> bool:
        """Whether any loss compares the images of a batch with each other or with centers."""
        return self.triplet + self.circle + self.center > 0

    def __post_init__(self) -> None:
        check_choices(self, "loss")
        weights = ("identity", "attributes", "triplet", "circle", "center")
        margins = ("triplet_margin", "circle_margin", "classifier_margin")
        check_each(self, "loss", (*weights, *margins), 0, "0 or more")
        for name in ("circle_scale", "classifier_scale"):
            check(getattr(self, name) > 0, f"loss.{name.replace('_', '-')}", "above 0", getattr(self, name))
        check(
            not self.center or self.pairs_across_processes,
            "loss.pairs-across-processes",
            "on with loss.center, whose centers are the same on all processes",
            self.pairs_across_processes,
        )
        check(0 < self.center_rate <= 1, "loss.center-rate", "in (0, 1]", self.center_rate)
        check(0 <= self.label_smoothing < 1, "loss.label-smoothing", "in [0, 1)", self.label_smoothing)
        is_something = self.trains_identities or self.attributes > 0
        check(is_something, "loss.identity + attributes + triplet + circle", "above 0", 0)
