"""Which known mistake explains the features of a wrong export.

Legend: N images, D feature, H W pixels.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_accel.augment.ops import normalize
from reid_accel.models.reid import ReIDModel

EXPLAINS = 0.9995
"""A mistake explains features if the network that makes it returns them with at least this cosine."""
BATCH = 32
UNKNOWN = (
    "none of the known mistakes (normalization, color order, range of the pixels, batch size) explains it, so its "
    "weights or its operators are not the model's"
)
IN_BATCHES = "features are right for single images and wrong in batches, so images of a batch influence each other"


def explanation(model: ReIDModel, images_N3HW: Tensor, found_ND: npt.NDArray[np.float32], *, singly: bool) -> str:
    """The mistake that turns the network's features into those that a file returned.

    singly: whether the features are of single images; else those of single images were right.
    """
    if not np.isfinite(found_ND).all():
        return "it returns numbers that are not finite"
    if not singly:
        return IN_BATCHES
    mean, std = model.architecture.mean, model.architecture.std

    def normalized(images: Tensor) -> Tensor:
        return normalize(images, mean, std)

    mistakes: dict[str, Callable[[Tensor], Tensor]] = {
        "the pixels are normalized twice": lambda images: normalized(normalized(images)),
        "the pixels are not normalized": lambda images: images,
        "the color channels are in the wrong order (BGR for RGB)": lambda images: normalized(images.flip(1)),
        "the color channels are in the wrong order after the normalization": lambda images: normalized(images).flip(1),
        "the range of the pixels is 255 times too large": lambda images: normalized(images * 255),
        "the range of the pixels is 255 times too small": lambda images: normalized(images / 255),
        "the pixels are normalized with mean and standard deviation 0.5": lambda images: (images - 0.5) / 0.5,
        "the image is upside down": lambda images: normalized(images.flip(2)),
        "the image is mirrored": lambda images: normalized(images.flip(3)),
    }
    fits = {name: _similarity(model, change(images_N3HW), found_ND) for name, change in mistakes.items()}
    best = max(fits, key=lambda name: fits[name])
    return best if fits[best] >= EXPLAINS else UNKNOWN


@torch.no_grad()
def _similarity(model: ReIDModel, images_N3HW: Tensor, found_ND: npt.NDArray[np.float32]) -> float:
    """The lowest cosine between the network's features of (wrongly) prepared images and those found."""
    like = next(model.parameters())
    model.eval()
    parts = [model(part.to(like)).feature_BD.float().cpu() for part in images_N3HW.split(BATCH)]
    cosine_N = torch.nn.functional.cosine_similarity(torch.cat(parts), torch.from_numpy(found_ND))
    return float(cosine_N.min())
