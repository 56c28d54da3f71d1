"""From maps to one vector per image: the mean that a backbone comes with, the maximum, or the generalised mean.

Legend: B batch, C channels, H W places of the map.
"""

import torch
import torch.nn as nn
from timm.layers import SelectAdaptivePool2d
from torch import Tensor

from reid_accel.errors import InputError

POOLINGS = ("avg", "max", "gem")


class GeM(nn.Module):
    """The generalised mean (mean of x^p)^(1/p) over a map, B x C x H x W to B x C, with a learned p.

    Radenovic et al., "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019, equation 3. p = 1 is
    the mean, a large p the maximum. Values below `smallest` count as `smallest`, so that every power exists. Computed
    in float32, given back in the map's type. `dims` are the map's two dimensions, (1, 2) where channels come last;
    without `flatten` they stay, with one place each.

    >>> GeM()(torch.full((1, 2, 4, 4), 0.5)).detach()
    tensor([[0.5000, 0.5000]])
    """

    def __init__(
        self, *, start: float = 3.0, smallest: float = 1e-6, flatten: bool = True, dims: tuple[int, int] = (2, 3)
    ) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor([start]))
        self.smallest = smallest
        self.flatten = flatten
        self.dims = dims

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        exponent = self.exponent.float()
        powers = maps_BCHW.float().clamp(min=self.smallest).pow(exponent)
        # a power in 16 bits would overflow, or lose the small values
        return powers.mean(self.dims, keepdim=not self.flatten).pow(1 / exponent).to(maps_BCHW.dtype)


def set_pooling(backbone: nn.Module, pooling: str, name: str) -> None:
    """Put another global pooling into a backbone that has just been built; "avg" leaves it as it is.

    The new one takes the old one's order of dimensions and keeps, or drops, the same ones: layers may follow it.
    Raises InputError for a backbone without a global pooling over maps.
    """
    assert pooling in POOLINGS, pooling
    if pooling == "avg":
        return
    paths = [path for path, module in backbone.named_modules() if _is_global_pool(path, module)]
    if len(paths) != 1:
        raise InputError(
            f"model.pooling {pooling} is for convolutional networks; {name} pools its tokens by itself. "
            "Set --model.pooling avg"
        )
    head = backbone.get_submodule(paths[0].rpartition(".")[0])
    head.global_pool = _like(head.get_submodule("global_pool"), pooling)


def _is_global_pool(path: str, module: nn.Module) -> bool:
    named = path.rpartition(".")[2] == "global_pool"
    return named and isinstance(module, SelectAdaptivePool2d) and not module.is_identity()


def _like(old: nn.Module, pooling: str) -> nn.Module:
    dims: tuple[int, int] = getattr(old.pool, "dim", (2, 3))  # timm's pooling of channels-last maps names its own
    flatten = isinstance(old.flatten, nn.Flatten) or bool(getattr(old.pool, "flatten", False))
    if pooling == "gem":
        return GeM(flatten=flatten, dims=dims)
    order = "NHWC" if dims == (1, 2) else "NCHW"
    maximum: nn.Module = SelectAdaptivePool2d(pool_type="fastmax", flatten=flatten, input_fmt=order)
    return maximum
