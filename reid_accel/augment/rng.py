"""What is random of an image, as numbers.

They come from (seed, epoch, row) by a counter-based generator, so that they depend neither on the number of processes
nor on the image's place in a batch, and nothing has to be saved.
Legend: B batch.
"""

import torch
from torch import Tensor

NUM_DRAWS = 30
"""Random numbers per image: flip, shift y, shift x, rotation, erase?, area, ratio, top, left, brightness, contrast,
saturation, white balance of red, green, blue, place in the field of noise y, x; from 17 on patch?, area, ratio, top,
left, image of the pool, top and left in it, mirrored?; from 26 on trivial augment?, operation, level, sign. New ones
come last, so that a run keeps its numbers."""


def uniforms(seed: int, epoch: int, rows_B: Tensor, num: int = NUM_DRAWS) -> Tensor:
    """B x num float64 numbers in [0, 1), on the device of the rows: a function of (seed, epoch, row, place) alone.

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) over the four counters; int64 wraps around as uint64 does.
    """
    state_B = _mix(torch.full_like(rows_B, seed))
    state_B = _mix(state_B ^ epoch)
    state_B = _mix(state_B ^ rows_B)
    places = torch.arange(1, num + 1, device=rows_B.device) * _GOLDEN
    bits_Bn = _mix(state_B[:, None] + places[None, :])
    return _shifted(bits_Bn, 11).double() / float(1 << 53)


def _signed(unsigned: int) -> int:
    return unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned


_GOLDEN = _signed(0x9E3779B97F4A7C15)


def _mix(state: Tensor) -> Tensor:
    state = state + _GOLDEN
    state = (state ^ _shifted(state, 30)) * _signed(0xBF58476D1CE4E5B9)
    state = (state ^ _shifted(state, 27)) * _signed(0x94D049BB133111EB)
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, places: int) -> Tensor:
    """A shift to the right that brings in zeros, as unsigned numbers have it."""
    return (state >> places) & ((1 << (64 - places)) - 1)


def integers(uniform_B: Tensor, bound: int) -> Tensor:
    """0..bound-1, each equally likely."""
    return (uniform_B * bound).long().clamp_(max=bound - 1)
