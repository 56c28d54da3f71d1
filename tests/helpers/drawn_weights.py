"""Weights drawn by number: the same names, shapes and seed give the same tensors, which so need no storage."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch


def drawn(keys: Sequence[str], shapes: Sequence[Sequence[int]], seed: int) -> dict[str, torch.Tensor]:
    """Tensors by name, of sizes with which deep networks neither vanish nor explode."""
    return {
        key: _values(key, tuple(shape), np.random.default_rng([seed, number]))
        for number, (key, shape) in enumerate(zip(keys, shapes, strict=True))
    }


def _values(key: str, shape: tuple[int, ...], rng: np.random.Generator) -> torch.Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.tensor(7)
    if key.endswith("pool_layer.p"):
        return torch.tensor([2.5])
    if key.endswith("running_var"):
        values = rng.uniform(0.6, 1.4, shape)
    elif len(shape) == 1 and key.endswith("weight"):  # a norm's
        values = rng.uniform(0.5, 1.5, shape)
    elif len(shape) < 2 or key.endswith(("embed", "token", "embedding")):
        values = rng.normal(0, 0.2, shape)
    else:
        values = rng.normal(0, np.prod(shape[1:]) ** -0.5, shape)
    return torch.from_numpy(np.asarray(values, np.float32))


def drawn_pixels(height: int, width: int) -> list[npt.NDArray[np.uint8]]:
    """Three images of different brightness."""
    noise = np.random.default_rng(1).integers(0, 256, (3, height, width, 3), np.uint16)
    return [(noise[number] * (3 + 3 * number) // 10).astype(np.uint8) for number in range(3)]
