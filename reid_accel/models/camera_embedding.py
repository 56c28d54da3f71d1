"""The camera embedding of a ViT: a learned vector per camera, added to all tokens (side information embedding).

He et al., "TransReID: Transformer-based object re-identification", ICCV 2021, section 3.3, of cameras alone.
Legend: B batch, K cameras of the training set, T tokens (class token and patches), C channels.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn as nn
from timm.layers import trunc_normal_
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from reid_accel.errors import InputError, listed
from reid_accel.models.architecture import NO_CAMERAS, Architecture, Cameras


class CameraEmbedding(nn.Module):
    """A learned vector for each camera, times a factor; unknown and other cameras have the mean of all vectors.

    cameras: the numbers of the training set's, ascending. is_known_set: set it to false for images of another set,
    whose cameras have the same numbers: all have the mean then.
    """

    def __init__(self, cameras: Sequence[int], channels: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.weight = nn.Parameter(torch.empty(len(cameras), channels))
        trunc_normal_(self.weight, std=0.02)
        self.camera_K = nn.Buffer(torch.tensor(cameras), persistent=False)  # stored in config.json
        self.is_known_set = True

    def forward(self, camera_B: Tensor | None) -> Tensor:
        """B x C for camera numbers; without them 1 x C, that of an unknown camera."""
        mean_1C = self.weight.mean(0, keepdim=True)
        if camera_B is None or not self.is_known_set:
            return self.factor * mean_1C
        number = len(self.camera_K)
        index_B = torch.searchsorted(self.camera_K, camera_B).clamp(max=number - 1)
        index_B = torch.where(self.camera_K[index_B] == camera_B, index_B, number)
        return self.factor * torch.cat([self.weight, mean_1C])[index_B]


def require_tokens(backbone: nn.Module, name: str) -> None:
    """Raise InputError unless a backbone is a ViT, to whose tokens a vector can be added."""
    has_own_pass = any(
        getattr(type(backbone), step, None) is not getattr(VisionTransformer, step)
        for step in ("forward", "forward_features")
    )
    if not isinstance(backbone, VisionTransformer) or has_own_pass:
        raise InputError(
            f"model.camera-embedding is for ViTs (timm's vit_... and deit...); {name} is none. Set "
            "--model.camera-embedding 0"
        )


def knows_cameras(model: nn.Module) -> bool:
    """Whether a model tells the images' cameras apart."""
    embedding = getattr(model, "camera_embedding", None)
    return isinstance(embedding, CameraEmbedding) and embedding.is_known_set


def with_cameras(backbone: nn.Module, images_B3HW: Tensor, added_BC: Tensor) -> Tensor:
    """A ViT's pooled features, with a vector added to all tokens of an image where positions are added."""
    assert isinstance(backbone, VisionTransformer)
    tokens_BTC = backbone._pos_embed(backbone.patch_embed(images_B3HW)) + added_BC[:, None]
    tokens_BTC = backbone.blocks(backbone.norm_pre(backbone.patch_drop(tokens_BTC)))
    return backbone.forward_head(backbone.norm(tokens_BTC))


def new_camera_embedding(architecture: Architecture, channels: int) -> CameraEmbedding | None:
    """With random weights; None for a network that embeds no cameras. channels: the ViT's width."""
    factor, numbers = architecture.model.camera_embedding, architecture.cameras.numbers
    return CameraEmbedding(numbers, channels, factor) if factor and numbers else None


def cameras_to_embed(factor: float, camera_N: npt.NDArray[np.int64], data_set: str) -> Cameras:
    """The known cameras of the training images; none if the factor is 0.

    Raises InputError for fewer than two, which leave nothing to tell apart.
    """
    if not factor:
        return NO_CAMERAS
    known = np.unique(camera_N[camera_N >= 0]).tolist()
    if len(known) < 2:
        raise InputError(
            f"model.camera-embedding needs training images of two or more known cameras, these have {len(known)}"
            f"{f' ({listed(known)})' if known else ''}: set --model.camera-embedding 0"
        )
    return Cameras(numbers=tuple(known), data_set=data_set)
