"""ResNets in torchvision's names, with or without IBN-a, and the re-ID models that are built on them.

torchreid (Zhou and Xiang 2019), fast-reid (He et al. 2020), Bag of Tricks (Luo et al. 2019), LUPerson (Fu et al. 2021),
IBN-Net (Pan et al. 2018).
"""

import re

from torch import Tensor

from reid_accel.weights.necks import (
    FULLY_CONNECTED_LEFT_OUT,
    batch_norm_names,
    fully_connected_made,
    fully_connected_names,
    fully_connected_settings,
    identity_norm,
)
from reid_accel.weights.osnets import OSNET_RULES, osnet_name
from reid_accel.weights.recognized import (
    IMAGENET,
    TRAINING_ONLY,
    Normalization,
    Recognized,
    Tensors,
    backbone_names,
    under,
)

IBN_RULES = ((r"\.IN\.", ".instance."), (r"\.BN\.", ".batch."))
LUPERSON = ((89.896 / 255, 79.200 / 255, 80.073 / 255), (63.872 / 255, 64.305 / 255, 63.839 / 255))
_RESNETS: dict[tuple[str, tuple[int, ...], int, int], str] = {
    ("basic", (2, 2, 2, 2), 1, 64): "resnet18",
    ("basic", (3, 4, 6, 3), 1, 64): "resnet34",
    ("bottleneck", (3, 4, 6, 3), 1, 64): "resnet50",
    ("bottleneck", (3, 4, 23, 3), 1, 64): "resnet101",
    ("bottleneck", (3, 8, 36, 3), 1, 64): "resnet152",
    ("bottleneck", (3, 4, 6, 3), 32, 128): "resnext50_32x4d",
    ("bottleneck", (3, 4, 23, 3), 32, 256): "resnext101_32x8d",
    ("bottleneck", (3, 4, 6, 3), 1, 128): "wide_resnet50_2",
    ("bottleneck", (3, 4, 23, 3), 1, 128): "wide_resnet101_2",
}  # blocks, blocks per stage, groups and width of the first 3x3 convolution
_IN_BACKBONE = re.compile(r"(conv1|bn1|layer[1-4]\.\d+\.(conv\d|bn\d|downsample\.[01]))\..+")


def resnet_name(tensors: Tensors) -> str | None:
    """Our name of the ResNet with these tensors, None if they are another network's."""
    stem, inner = tensors.get("conv1.weight"), tensors.get("layer1.0.conv2.weight")
    if stem is None or inner is None or stem.shape[1:] != (3, 7, 7) or inner.ndim != 4:
        return None
    numbers = [{int(name.split(".")[1]) for name in tensors if name.startswith(f"layer{n}.")} for n in range(1, 5)]
    kind = "bottleneck" if "layer1.0.conv3.weight" in tensors else "basic"
    groups = inner.shape[0] // max(1, inner.shape[1])
    plain = _RESNETS.get((kind, tuple(map(len, numbers)), groups, inner.shape[0]))
    has_ibn = any(".bn1.IN." in name for name in tensors)
    return f"{plain}_ibn_a" if plain and has_ibn else plain


def _resnet_names(tensors: Tensors, prefix: str = "") -> dict[str, str]:
    return backbone_names((name for name in tensors if _IN_BACKBONE.fullmatch(name)), IBN_RULES, prefix)


def bare_resnet(tensors: Tensors) -> Recognized | None:
    """torchvision's, IBN-Net's, LUPerson's or torchreid's ResNet: all have torchvision's names."""
    name = resnet_name(tensors)
    if name is None:
        return None
    if "classifier.weight" in tensors:
        return _torchreid_resnet(tensors, name)
    scheme, normalization = ("IBN-Net's" if "_ibn_" in name else "torchvision's"), IMAGENET
    notes: tuple[str, ...] = ()
    if "fc.weight" not in tensors and "_ibn_" not in name:
        scheme, normalization = "LUPerson's", LUPERSON
        notes = ("a ResNet without classifier is taken for LUPerson's; `--source torchvision` normalizes as ImageNet",)
    return Recognized(
        scheme=f"{scheme} ResNet",
        names=_resnet_names(tensors),
        model={"backbone": name},
        left_out={r"fc\.(weight|bias)": "classifies ImageNet", r"fc\.\d.*": "projects for the contrastive loss"},
        normalization=normalization,
        notes=notes,
    )


def moco(tensors: Tensors) -> Recognized | None:
    """A checkpoint of MoCo's training, which LUPerson's networks come from."""
    query = under(tensors, "encoder_q.")
    name = resnet_name(query)
    if name is None:
        return None
    return Recognized(
        scheme="LUPerson's ResNet in MoCo",
        names=_resnet_names(query, "encoder_q."),
        model={"backbone": name},
        left_out={
            r"encoder_q\.fc.*": "projects for the contrastive loss",
            r"encoder_k.*|queue.*": "MoCo's keys",
        },
        normalization=LUPERSON,
    )


def _torchreid_resnet(tensors: Tensors, name: str) -> Recognized:
    has_fc = "fc.0.weight" in tensors
    # torchreid's resnet50_fc512 has last stride 1, its other ResNets 2
    model = {"backbone": name, "metric": "euclidean", "last_stride": 1 if has_fc else 2}
    return Recognized(
        scheme="torchreid's ResNet",
        names=_resnet_names(tensors) | (fully_connected_names(tensors) if has_fc else {}),
        made=fully_connected_made(tensors) if has_fc else identity_norm(_pooled(tensors)),
        model=model | (fully_connected_settings(tensors) if has_fc else {"neck": "bn"}),
        left_out={r"classifier\..*": TRAINING_ONLY} | FULLY_CONNECTED_LEFT_OUT,
    )


def _pooled(tensors: Tensors) -> int:
    last = "layer4.0.bn3.weight" if "layer4.0.bn3.weight" in tensors else "layer4.0.bn2.weight"
    return len(tensors[last])


def bag_of_tricks(tensors: Tensors) -> Recognized | None:
    """Luo et al.'s baseline, and the ResNets of TransReID and CLIP-ReID's predecessors, which share its code."""
    base = under(tensors, "base.")
    name = resnet_name(base)
    if name is None:
        return None
    has_neck = "bottleneck.weight" in tensors
    return Recognized(
        scheme="the Bag of Tricks baseline",
        names=_resnet_names(base, "base.") | batch_norm_names(tensors, "bottleneck."),
        made={} if has_neck else identity_norm(_pooled(base)),
        model={
            "backbone": name,
            "neck": "bn",
            "last_stride": 1,
            "metric": "cosine",
            # its plain ResNet lacks the ReLU of the stem; the one with IBN-a has it
            "stem": "relu" if "_ibn_" in name else "no-relu",
        },
        left_out={r"classifier\..*": TRAINING_ONLY, r"base\.fc\..*": "classifies ImageNet"},
    )


def fast_reid(tensors: Tensors) -> Recognized | None:
    """fast-reid's Baseline with its EmbeddingHead, on a ResNet or an OSNet."""
    base = under(tensors, "backbone.")
    resnet, osnet = resnet_name(base), osnet_name(base)
    if not any(name.startswith("heads.") for name in tensors) or (resnet or osnet) is None:
        return None
    names = _resnet_names(base, "backbone.") if resnet else backbone_names(base, OSNET_RULES, "backbone.")
    width = _pooled(base) if resnet else len(base["conv5.bn.weight"])
    neck_names, made, model = _embedding_head(tensors, width)
    pool = "heads.pool_layer.p"
    if pool in tensors:
        names |= {"backbone.global_pool.exponent": pool}
    fixed = "" if pool in tensors else "the pooling is not in the file: `--pooling` says if it is not the average"
    settings: dict[str, object] = {"backbone": resnet or osnet, "metric": "cosine", "interpolation": "bicubic"}
    if resnet:
        settings |= {"last_stride": 1, "stem": "ceil-pool"}
    return Recognized(
        scheme="fast-reid",
        names=names | neck_names,
        made=made,
        model=settings | model | {"pooling": "gem" if pool in tensors else "avg"},
        left_out={
            r"heads\.(weight|classifier\..*)": TRAINING_ONLY,
            r"heads\.bottleneck\.0\.weight": "reshaped from a 1x1 convolution to a linear layer",
            r"pixel_(mean|std)": "normalizes the input: kept as the model's mean and std",
        },
        normalization=_pixel_normalization(tensors),
        notes=(fixed,) if fixed else (),
    )


def _embedding_head(tensors: Tensors, width: int) -> tuple[dict[str, str], dict[str, Tensor], dict[str, object]]:
    """Names, computed tensors and settings of the neck: a batch norm, a 1x1 convolution, both or none."""
    first = tensors.get("heads.bottleneck.0.weight")
    if first is None:
        older = batch_norm_names(tensors, "heads.bnneck.")
        return older, {} if older else identity_norm(width), {"neck": "bn"}
    if first.ndim == 1:
        return batch_norm_names(tensors, "heads.bottleneck.0."), {}, {"neck": "bn"}
    units = len(first)
    norm = batch_norm_names(tensors, "heads.bottleneck.1.", "neck.0.1.")
    made = {} if norm else identity_norm(units, "neck.0.1.")
    return norm, made | {"neck.0.0.weight": first.flatten(1)}, {"neck": "linear", "neck_units": units}


def _pixel_normalization(tensors: Tensors) -> Normalization:
    """fast-reid normalizes pixels of 0 to 255 inside its network; ours normalizes those of 0 to 1 before it."""
    if "pixel_mean" not in tensors or "pixel_std" not in tensors:
        return IMAGENET
    mean, std = (tuple((tensors[name].float().flatten() / 255).tolist()) for name in ("pixel_mean", "pixel_std"))
    return mean, std
