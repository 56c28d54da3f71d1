"""A re-ID model as another library builds it: the name of a network and the weights under that library's names.

roboflow's `reid` builds `timm:NAME` (timm's network without classifier) and torchreid's OSNets, from a name alone. A
model of ours is the same function where nothing follows the pooling, where what follows can be folded into the last
norm, or where it is an OSNet with the fully connected layer that theirs has, too.
Legend: B batch, D feature, C pooled features.
"""

import re
from collections.abc import Mapping

import timm
import torch
from torch import Tensor, nn

from reid_accel.errors import InputError
from reid_accel.models.architecture import Architecture
from reid_accel.models.backbone import registering_module
from reid_accel.models.ibn import plain_name
from reid_accel.models.osnet import OSNET_WIDTHS
from reid_accel.models.reid import ReIDModel
from reid_accel.models.swin import SOLIDER_SWINS

OSNET_UNITS = 512  # of the layer after the pooling, at every width
_OSNET_RULES = (
    (r"^neck\.0\.([01])\.", r"fc.\1."),
    (r"^conv([15])\.0\.", r"conv\1.conv."),
    (r"^conv([15])\.1\.", r"conv\1.bn."),
    (r"^conv([23])\.2\.", r"conv\1.2.0.conv."),
    (r"^conv([23])\.3\.", r"conv\1.2.0.bn."),
    (r"\.(reduce|expand|downsample)\.0\.", r".\1.conv."),
    (r"\.(reduce|expand|downsample)\.1\.", r".\1.bn."),
    (r"\.reduce\.", ".conv1."),
    (r"\.expand\.", ".conv3."),
    (r"\.streams\.0\.0\.", ".conv2a."),
    (r"\.streams\.1\.", ".conv2b."),
    (r"\.streams\.2\.", ".conv2c."),
    (r"\.streams\.3\.", ".conv2d."),
    (r"\.pointwise\.", ".conv1."),
    (r"\.depthwise\.", ".conv2."),
    (r"\.norm\.", ".bn."),
    (r"\.gate\.squeeze\.", ".gate.fc1."),
    (r"\.gate\.excite\.", ".gate.fc2."),
)


def named_network(model: ReIDModel, images_B3HW: Tensor) -> tuple[str, dict[str, Tensor]]:
    """The name that roboflow's `reid` has for this model's network, and its weights under that network's names.

    images_B3HW: normalized images on which timm's network must give the same features.
    Raises InputError, with what stands in the way, for a model that no such name describes.
    """
    obstacle = _obstacle(model.architecture)
    if obstacle is not None:
        raise InputError(obstacle)
    if model.architecture.model.backbone in OSNET_WIDTHS:
        return model.architecture.model.backbone, _osnet_weights(model)
    name, weights = model.architecture.model.backbone, _timm_weights(model)
    _check_same(model, _timms(name, weights, model.architecture), images_B3HW)
    return f"timm:{name}", weights


def _obstacle(architecture: Architecture) -> str | None:
    settings = architecture.model
    name, osnet = settings.backbone, settings.backbone in OSNET_WIDTHS
    own = name in SOLIDER_SWINS or plain_name(name) is not None or (name.startswith("osnet_") and not osnet)
    found = {
        f"its backbone {name} is not timm's": own or registering_module(name) is not None,
        "attribute scores are part of its feature": architecture.num_attribute_values > 0,
        "it pools stripes": settings.stripes != (1,),
        f"its pooling is {settings.pooling}": settings.pooling != "avg",
        "its last stride is 1": settings.last_stride != 2,
        f"its stem is {settings.stem}": settings.stem != "relu",
        "its patches overlap": settings.patch_stride is not None,
        f"a layer (--model.neck {settings.neck}) follows the pooling": not osnet
        and settings.neck != "bn"
        and settings.neck_feature == "after",
        f"its OSNet has no fully connected layer of {OSNET_UNITS} units (--model.neck fc)": osnet
        and (settings.neck != "fc" or settings.neck_units != OSNET_UNITS),
    }
    return next((obstacle for obstacle, there in found.items() if there), None)


def _osnet_weights(model: ReIDModel) -> dict[str, Tensor]:
    weights = {
        **model.backbone.state_dict(),
        **{f"neck.{key}": value for key, value in model.neck.state_dict().items()},
    }
    renamed = {_their_name(key): value for key, value in weights.items()}
    return {**renamed, "fc.0.bias": torch.zeros(OSNET_UNITS)}  # theirs has one before its batch norm


def _their_name(name: str) -> str:
    for ours, theirs in _OSNET_RULES:
        name = re.sub(ours, theirs, name)
    return name


def _timm_weights(model: ReIDModel) -> dict[str, Tensor]:
    weights = dict(model.backbone.state_dict())
    if model.architecture.model.neck_feature == "before":
        return weights
    (neck,) = model.neck
    assert isinstance(neck, nn.BatchNorm1d), "the obstacles leave nothing else"
    scale_C, shift_C = _as_affine(neck)
    last = _last_norm(model.backbone, len(scale_C))
    if last is None:
        raise InputError("its batch norm after the pooling (--model.neck bn) can't be folded into a last norm")
    weights[f"{last}.weight"] = weights[f"{last}.weight"] * scale_C
    weights[f"{last}.bias"] = weights[f"{last}.bias"] * scale_C + shift_C
    return weights


def _as_affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Scale and shift, per feature, of a batch norm in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale_C = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    return scale_C, norm.bias.detach() - norm.running_mean * scale_C


def _last_norm(backbone: nn.Module, num_features: int) -> str | None:
    """The path of the last norm of a transformer or ConvNeXt, after which nothing but an average follows."""
    paths = [
        path
        for path, module in backbone.named_modules()
        if isinstance(module, nn.LayerNorm) and module.elementwise_affine and module.normalized_shape == (num_features,)
    ]
    return paths[-1] if paths else None


def _timms(name: str, weights: Mapping[str, Tensor], architecture: Architecture) -> nn.Module:
    """timm's network of this name, as `reid` builds it, with these weights."""
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    wanted = {key: value.shape for key, value in network.state_dict().items()}
    if wanted != {key: value.shape for key, value in weights.items()}:
        size = f"{architecture.height_px}x{architecture.width_px}"
        raise InputError(f"timm builds {name} for its own input size when given the name alone, not for {size}")
    network.load_state_dict(dict(weights))
    return network.eval()


@torch.no_grad()
def _check_same(model: ReIDModel, network: nn.Module, images_B3HW: Tensor) -> None:
    ours_BD = model.eval()(images_B3HW).feature_BD
    try:
        theirs_BD = network(images_B3HW)
    except (RuntimeError, AssertionError) as error:  # a network for one input size only
        raise InputError(f"timm's network takes no images of this size ({error})") from error
    least = nn.functional.cosine_similarity(ours_BD, theirs_BD).min() if ours_BD.shape == theirs_BD.shape else -1.0
    if least < 0.9999:
        raise InputError("what follows its pooling can't be folded into a network that timm builds from a name")
