"""Pooling of feature maps, globally or per horizontal stripe: average, maximum, or generalized mean.

Legend: B batch, C channels, H W positions of the map, P parts (stripes).
"""

from collections.abc import Sequence

import torch
import torch.nn as nn
from timm.layers import SelectAdaptivePool2d
from torch import Tensor

from reid_accel.errors import InputError

POOLINGS = ("avg", "max", "gem")


class GeM(nn.Module):
    """The generalized mean (mean of x^p)^(1/p) over a map, B x C x H x W to B x C, with a learned p.

    Radenovic et al., "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019, equation 3. p = 1 is the
    mean; a large p approaches the maximum. Values are clamped at `smallest`, so that every power exists. Computed in
    float32 and returned in the map's dtype. `dims` are the map's spatial dimensions, (1, 2) for channels last; without
    `flatten` they are kept with size 1.

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
        # powers in 16 bits would overflow or underflow
        return powers.mean(self.dims, keepdim=not self.flatten).pow(1 / exponent).to(maps_BCHW.dtype)


class Stripes(nn.Module):
    """Pools each horizontal stripe of the map, B x C x H x W to B x C x P x 1 (flattened: B x CP).

    counts: numbers of equal stripes, (1, 2, 4) for the full map, halves and quarters (Fu et al., "Horizontal pyramid
    matching", AAAI 2019), (6,) for those of Sun et al., "Beyond part models", ECCV 2018. P is their sum. `pool` must
    keep the spatial dimensions with size 1; `dims` are as in `GeM`.
    """

    def __init__(
        self, pool: nn.Module, counts: Sequence[int], *, flatten: bool = True, dims: tuple[int, int] = (2, 3)
    ) -> None:
        super().__init__()
        self.pool = pool
        self.counts = tuple(counts)
        self.flatten = flatten
        self.dims = dims

    def forward(self, maps: Tensor) -> Tensor:
        down = self.dims[0]
        rows = [each for count in self.counts for each in stripe_rows(maps.shape[down], count)]
        parts = torch.cat([self.pool(maps.narrow(down, top, bottom - top)) for top, bottom in rows], down)
        if not self.flatten:
            return parts
        return parts.permute(0, 3, 1, 2).flatten(1) if self.dims == (1, 2) else parts.flatten(1)


def stripe_rows(height: int, count: int) -> list[tuple[int, int]]:
    """(first row, end row) of each stripe; stripes overlap if the height isn't divisible.

    >>> stripe_rows(8, 3)
    [(0, 3), (2, 6), (5, 8)]
    """
    return [(height * n // count, -(-height * (n + 1) // count)) for n in range(count)]


def set_pooling(backbone: nn.Module, pooling: str, name: str, stripes: Sequence[int] = (1,)) -> None:
    """Replace the global pooling of a newly built backbone; "avg" with one stripe leaves it unchanged.

    The new pooling has the same dimension order and output dimensions as the old one, since layers may follow it.
    Raises InputError for a backbone without a global pooling over maps.
    """
    assert pooling in POOLINGS, pooling
    plain = tuple(stripes) == (1,)
    if pooling == "avg" and plain:
        return
    paths = [path for path, module in backbone.named_modules() if _is_global_pool(path, module)]
    if len(paths) != 1:
        raise InputError(
            f"model.{f'pooling {pooling}' if plain else 'stripes'} is for convolutional networks; {name} pools its "
            f"tokens by itself. Set {'--model.pooling avg' if plain else '--model.stripes 1'}"
        )
    head = backbone.get_submodule(paths[0].rpartition(".")[0])
    head.global_pool = _like(head.get_submodule("global_pool"), pooling, stripes)


def _is_global_pool(path: str, module: nn.Module) -> bool:
    named = path.rpartition(".")[2] == "global_pool"
    return named and isinstance(module, SelectAdaptivePool2d) and not module.is_identity()


def _like(old: nn.Module, pooling: str, stripes: Sequence[int]) -> nn.Module:
    dims: tuple[int, int] = getattr(
        old.pool, "dim", (2, 3)
    )  # timm's pooling of channels-last maps has other dimensions
    flatten = isinstance(old.flatten, nn.Flatten) or bool(getattr(old.pool, "flatten", False))
    if tuple(stripes) == (1,):
        return _pool(pooling, flatten, dims)
    return Stripes(_pool(pooling, False, dims), stripes, flatten=flatten, dims=dims)


def _pool(pooling: str, flatten: bool, dims: tuple[int, int]) -> nn.Module:
    if pooling == "gem":
        return GeM(flatten=flatten, dims=dims)
    order = "NHWC" if dims == (1, 2) else "NCHW"
    pool: nn.Module = SelectAdaptivePool2d(pool_type=f"fast{pooling}", flatten=flatten, input_fmt=order)
    return pool
