"""Vision transformers: TransReID (He et al. 2021) and CLIP-ReID (Li et al. 2023)."""

import math
import re

import torch
from torch import Tensor

from reid_accel.errors import InputError
from reid_accel.weights.necks import identity_norm
from reid_accel.weights.recognized import HALF, TRAINING_ONLY, Recognized, Tensors, backbone_names, under

PATCH = 16
SIE_WEIGHT = {"TransReID": 3.0, "CLIP-ReID": 1.0}  # of the camera embedding, in the published configurations
_CAMERAS_NOTE = (
    "cameras 1 to {} have the vectors of TransReID's camera embedding, which numbers them from 0 (one of viewpoints "
    f"looks the same), with the factor {SIE_WEIGHT['TransReID']:g} of its published configurations. Images without a "
    "camera get their mean; `score.py --cameras same` and `embed(..., cameras=...)` use each image's"
)
_CLASS_TOKEN_NOTE = (
    "the camera embedding of the class token is replaced by its mean over cameras, with the factor "
    f"{SIE_WEIGHT['CLIP-ReID']:g} of CLIP-ReID's published configurations: features differ from CLIP-ReID's, which "
    "knows each image's camera"
)
_VITS = {(192, 12): "vit_tiny", (384, 12): "vit_small", (768, 12): "vit_base", (1024, 24): "vit_large"}
_SIZES = ((256, 128), (384, 128), (256, 256), (384, 192), (224, 224), (384, 384))
_STRIDES = (16, 12, 14)
_CLIP_RULES = (
    (r"^conv1\.", "patch_embed.proj."),
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)


def transreid(tensors: Tensors) -> Recognized | None:
    """TransReID's ViT. With the jigsaw branch, its global feature alone: the first fifth of TransReID's vector."""
    base = under(tensors, "base.")
    if "cls_token" not in base or "patch_embed.proj.weight" not in base:
        return None
    width, depth = base["cls_token"].shape[-1], _depth(base, "blocks.")
    last = f"blocks.{depth - 1}."
    has_jigsaw = any(name.startswith("b1.") for name in tensors)
    replaced = (last, "norm.") if has_jigsaw else ()
    names = backbone_names(base, prefix="base.", without=lambda n: n.startswith(("sie_embed", "fc.", *replaced)))
    if has_jigsaw:
        names |= {f"backbone.{last}{name}": f"b1.0.{name}" for name in under(tensors, "b1.0.")}
        names |= {f"backbone.norm.{name}": f"b1.1.{name}" for name in under(tensors, "b1.1.")}
    made, cameras = _with_cameras(base) if "sie_embed" in base else ({}, ())
    notes = [_CAMERAS_NOTE.format(cameras[-1])] if cameras else []
    if has_jigsaw:
        notes.append("the four local features of the jigsaw branch are left out: the feature is the global one")
    return Recognized(
        scheme="TransReID",
        names={ours: theirs for ours, theirs in names.items() if ours not in made},
        made=identity_norm(width) | made,
        model={
            "backbone": _vit_name(base, depth),
            "camera_embedding": SIE_WEIGHT["TransReID"] if cameras else 0.0,
            **_settings(base["pos_embed"]),
        },
        cameras=cameras,
        left_out={
            r"classifier.*": TRAINING_ONLY,
            r"base\.fc\..*": "classifies ImageNet",
            r"bottleneck.*": "the feature is the one before the neck, as published",
            rf"b2\..*|base\.{re.escape(last)}.*|base\.norm\..*": "the jigsaw branch, which this package doesn't build",
            r"base\.sie_embed|base\.pos_embed": "the position embedding has the mean camera's vector, too",
        },
        normalization=HALF,
        notes=tuple(notes),
    )


def clip_reid(tensors: Tensors) -> Recognized | None:
    """CLIP-ReID's image encoder; its feature is the class token joined by its projection, before the necks."""
    encoder = under(tensors, "image_encoder.")
    if not encoder:
        return None
    if "class_embedding" not in encoder:
        raise InputError(
            "this is CLIP-ReID's ResNet, whose attention pooling this package doesn't build; its ViT can be imported"
        )
    if encoder["class_embedding"].shape != (768,) or encoder["conv1.weight"].shape[-1] != PATCH:
        raise InputError("of CLIP-ReID's image encoders, ViT-B-16 can be imported; this is another one")
    names = backbone_names(encoder, _CLIP_RULES, "image_encoder.", without=lambda name: name == "proj")
    embeddings = {
        "backbone.cls_token": encoder["class_embedding"].float()[None, None],
        "backbone.pos_embed": encoder["positional_embedding"].float()[None],
    }
    notes: tuple[str, ...] = ()
    if "cv_embed" in tensors:
        mean_C = tensors["cv_embed"].float().mean(0)
        embeddings["backbone.cls_token"] = embeddings["backbone.cls_token"] + SIE_WEIGHT["CLIP-ReID"] * mean_C
        notes = (_CLASS_TOKEN_NOTE,)
    projection = encoder["proj"].float().T
    neck = {"neck.0.0.weight": torch.cat([torch.eye(projection.shape[1]), projection])}
    units = sum(projection.shape)
    return Recognized(
        scheme="CLIP-ReID",
        names={ours: theirs for ours, theirs in names.items() if ours not in embeddings},
        made=embeddings | neck | identity_norm(units, "neck.0.1."),
        model={
            "backbone": "vit_base_patch16_clip_quickgelu_224",
            "neck": "linear",
            "neck_units": units,
            "metric": "cosine",
            **_settings(embeddings["backbone.pos_embed"], with_neck=False),
        },
        left_out={
            r"classifier.*": TRAINING_ONLY,
            r"bottleneck.*": "the feature is the one before the necks, as published",
            r"(prompt_learner|text_encoder)\..*": "the text, used in training only",
            r"image_encoder\.(class_embedding|positional_embedding|proj)|cv_embed": "reshaped, or combined with others",
        },
        normalization=HALF,
        notes=notes,
    )


def _depth(tensors: Tensors, prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})


def _vit_name(tensors: Tensors, depth: int) -> str:
    width, patch = tensors["cls_token"].shape[-1], tensors["patch_embed.proj.weight"].shape[-1]
    name = _VITS.get((width, depth))
    if name is None or patch != PATCH or "blocks.0.attn.qkv.bias" not in tensors:
        raise InputError(
            f"this is TransReID's ViT with {depth} blocks of {width} channels and patches of {patch} pixels, which "
            f"timm doesn't build; those of timm are {', '.join(f'{blocks} x {size}' for size, blocks in _VITS)}"
        )
    return f"{name}_patch16_224"


def _settings(position_1NC: Tensor, *, with_neck: bool = True) -> dict[str, object]:
    """Size, stride and the other settings, from the number of patches."""
    patches = position_1NC.shape[1] - 1
    found = [(size, stride) for stride in _STRIDES for size in _SIZES if _patches(size, stride) == patches]
    if not found:
        raise InputError(
            f"the position embedding is for {patches} patches, which no image size of TransReID or CLIP-ReID has, so "
            "this variant cannot be imported"
        )
    (height_px, width_px), stride = found[0]
    sizes: dict[str, object] = {"height_px": height_px, "width_px": width_px}
    if stride != PATCH:
        sizes["patch_stride"] = stride
    return sizes | ({"neck": "bn", "metric": "cosine"} if with_neck else {})


def _patches(size: tuple[int, int], stride: int) -> int:
    return math.prod((pixels - PATCH) // stride + 1 for pixels in size)


def _with_cameras(base: Tensors) -> tuple[dict[str, Tensor], tuple[int, ...]]:
    """The position embedding with the mean camera's vector, what is different in each camera's, and their numbers.

    So the backbone alone is that of an unknown camera. TransReID numbers the cameras of its sets from 0, which count
    from 1.
    """
    vector_KC = base["sie_embed"].float()[:, 0]
    mean_C = vector_KC.mean(0)
    position = base["pos_embed"].float() + SIE_WEIGHT["TransReID"] * mean_C
    made = {"backbone.pos_embed": position, "camera_embedding.weight": vector_KC - mean_C}
    return made, tuple(range(1, len(vector_KC) + 1))
