"""SOLIDER's Swin transformer (Chen et al. 2023), pretrained or as a re-ID model, in mmdetection's names."""

import torch
from torch import Tensor

from reid_accel.weights.necks import identity_norm
from reid_accel.weights.recognized import HALF, TRAINING_ONLY, Recognized, Tensors, backbone_names, under

SEMANTIC_WEIGHT = 0.2  # of SOLIDER's re-ID commands
_RULES = (
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^norm3\.", "norm."),
    (r"^stages\.", "layers."),
    (r"\.attn\.w_msa\.", ".attn."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
)
_SIZES = {(96, 6): "tiny", (96, 18): "small", (128, 18): "base"}
_MADE_OR_UNUSED = ("semantic_embed", "norm0.", "norm1.", "norm2.")


def solider(tensors: Tensors) -> Recognized | None:
    """A re-ID model of SOLIDER-REID (`base.`), or SOLIDER's pretrained teacher (`backbone.`)."""
    for prefix in ("base.", "backbone."):
        swin = under(tensors, prefix)
        if "stages.0.blocks.0.attn.w_msa.qkv.weight" in swin:
            return _recognized(tensors, swin, prefix)
    return None


def _recognized(tensors: Tensors, swin: Tensors, prefix: str) -> Recognized | None:
    blocks = {name.split(".")[3] for name in swin if name.startswith("stages.2.blocks.")}
    size = _SIZES.get((len(swin["patch_embed.projection.weight"]), len(blocks)))
    if size is None:
        return None
    names = backbone_names(swin, _RULES, prefix, without=_is_made_or_unused)
    merging = {f"backbone.layers.{stage + 1}.downsample.{name}": value for stage in range(3)
               for name, value in _merging(swin, stage).items()}  # fmt: skip
    is_reid = prefix == "base."
    neck, neck_settings = _neck(tensors, swin) if is_reid else ({}, {})
    return Recognized(
        scheme="SOLIDER",
        names=names,
        made=merging | neck,
        model={"backbone": f"solider_swin_{size}", "height_px": 384, "metric": "cosine", **neck_settings},
        left_out={
            r"classifier\..*": TRAINING_ONLY,
            r"(head|.*\.head)\..*": "projects for pretraining",
            r"bottleneck\..*": "the feature is the one before the neck, as published",
            r".*\.downsample\..*|.*semantic_embed_.*|fcneck\..*": "reordered, and combined with the semantic embedding",
            r".*\.norm[012]\..*": "normalizes maps that no feature is made of",
            r".*\.relative_position_index": "computed from the size of windows",
        },
        normalization=HALF,
        notes=(f"the semantic embedding is that of the weight {SEMANTIC_WEIGHT}, as in SOLIDER's re-ID commands",),
    )


def _is_made_or_unused(name: str) -> bool:
    return name.startswith(_MADE_OR_UNUSED) or ".downsample." in name or name.endswith("relative_position_index")


def _merging(swin: Tensors, stage: int) -> dict[str, Tensor]:
    """The merging after a stage in timm's order of pixels, with the semantic embedding's scale and shift."""
    norm, reduction = (f"stages.{stage}.downsample.{part}" for part in ("norm", "reduction"))
    scale_C, shift_C = _semantic(swin, stage)
    weight = swin[f"{reduction}.weight"].float()
    ordered = weight.unflatten(1, (-1, 2, 2)).permute(0, 3, 2, 1).flatten(1)
    norms = {part: swin[f"{norm}.{part}"].float().unflatten(0, (-1, 2, 2)) for part in ("weight", "bias")}
    return {
        "reduction.weight": ordered * scale_C[:, None],
        "reduction.bias": shift_C,
        **{f"norm.{part}": value.permute(2, 1, 0).flatten() for part, value in norms.items()},
    }


def _semantic(swin: Tensors, stage: int) -> tuple[Tensor, Tensor]:
    channels = len(swin[f"stages.{stage}.downsample.reduction.weight"])
    if f"semantic_embed_w.{stage}.weight" not in swin:
        return torch.ones(channels), torch.zeros(channels)
    weights = torch.tensor([SEMANTIC_WEIGHT, 1 - SEMANTIC_WEIGHT])
    scale, shift = (
        swin[f"semantic_embed_{kind}.{stage}.weight"].float() @ weights
        + swin[f"semantic_embed_{kind}.{stage}.bias"].float()
        for kind in ("w", "b")
    )
    return torch.nn.functional.softplus(scale), shift


def _neck(tensors: Tensors, swin: Tensors) -> tuple[dict[str, Tensor], dict[str, object]]:
    if "fcneck.weight" not in tensors:
        return identity_norm(len(swin["norm3.weight"])), {"neck": "bn"}
    weight = tensors["fcneck.weight"].float()
    made = {"neck.0.0.weight": weight} | identity_norm(len(weight), "neck.0.1.")
    return made, {"neck": "linear", "neck_units": len(weight)}
