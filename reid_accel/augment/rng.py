"""Random numbers of the augmentation, in named streams: one stream per random choice.

A counter-based generator derives them from seed, epoch, row, and how often the epoch has drawn the row before: they
depend neither on the number of processes nor on an image's position in a batch, and a checkpoint stores no generator
state.
Legend: B batch, K attempts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from reid_accel.hardware import exact_float


class Stream(Enum):
    """A random choice: the index of its first number among an image's numbers, and how many it takes.

    A new stream starts where the last one ends. Existing ones never change, so that old runs can be reproduced.
    """

    FLIP = (0, 1)
    CROP = (1, 2)  # shift down, shift right
    ROTATION = (3, 1)
    ERASE_BOX = (4, 5)  # chosen?, area, aspect ratio, top, left
    COLOR = (9, 3)  # brightness, contrast, saturation
    WHITE_BALANCE = (12, 3)  # red, green, blue
    ERASE_NOISE = (15, 2)  # top and left in the field of noise
    PATCH_BOX = (17, 5)  # as ERASE_BOX
    PATCH_SOURCE = (22, 4)  # image of the pool, top and left in it, mirrored?
    TRIVIAL_AUGMENT = (26, 4)  # chosen?, operation, level, sign
    GRAYSCALE = (30, 1)

    def __init__(self, first: int, num: int) -> None:
        self.first, self.num = first, num


NUM_DRAWS = max(stream.first + stream.num for stream in Stream)

REPEAT, ATTEMPT = 1 << 32, 1 << 48  # the bits of a key: row, times drawn before (16 bits), attempt


@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch's images: `draws[Stream.CROP]` is B x 2."""

    seed: int
    epoch: int
    host_keys_B: Tensor
    keys_B: Tensor  # on the device
    numbers_Bn: Tensor

    @classmethod
    def of(
        cls,
        seed: int,
        epoch: int,
        host_rows_B: Tensor,
        device: torch.device | None = None,
        *,
        host_repeat_B: Tensor | None = None,
    ) -> "Draws":
        """The numbers of the given rows on a device (default: the host).

        host_repeat_B: how often the epoch has drawn each row before; default: never.
        """
        host_keys_B = host_rows_B if host_repeat_B is None else host_rows_B + REPEAT * host_repeat_B
        keys_B = host_keys_B.to(device, non_blocking=True)
        numbers_Bn = _floats(seed, epoch, host_keys_B, keys_B)
        return cls(seed, epoch, host_keys_B, keys_B, numbers_Bn)

    @property
    def rows_B(self) -> Tensor:
        """The images' rows, on the device."""
        return self.keys_B & (REPEAT - 1)

    def split(self, sizes: Sequence[int]) -> Iterator["Draws"]:
        """The numbers of consecutive groups of images."""
        columns = (column.split(list(sizes)) for column in (self.host_keys_B, self.keys_B, self.numbers_Bn))
        for host_keys_B, keys_B, numbers_Bn in zip(*columns, strict=True):
            yield Draws(self.seed, self.epoch, host_keys_B, keys_B, numbers_Bn)

    def __getitem__(self, stream: Stream) -> Tensor:
        """B x num float32 numbers in [0, 1], on the device."""
        return self.numbers_Bn[:, stream.first : stream.first + stream.num]

    def on_host(self, stream: Stream) -> Tensor:
        """B x num float64 numbers in [0, 1), computed on the host without synchronizing with the device."""
        return uniforms(self.seed, self.epoch, self.host_keys_B, stream)

    def attempts(self, stream: Stream, number: int) -> Tensor:
        """B x K x num numbers for choices that are drawn again until they fit; the first attempt is `self[stream]`."""
        host_keys_n, keys_n = (
            (keys_B[:, None] + ATTEMPT * torch.arange(number, device=keys_B.device)).flatten()
            for keys_B in (self.host_keys_B, self.keys_B)
        )
        return _floats(self.seed, self.epoch, host_keys_n, keys_n, stream).view(-1, number, stream.num)


def _floats(seed: int, epoch: int, host_keys_B: Tensor, keys_B: Tensor, stream: Stream | None = None) -> Tensor:
    """`uniforms` in float32 on the device of `keys_B`; the same numbers if it lacks float64."""
    if exact_float(keys_B.device) != torch.float64:
        return uniforms(seed, epoch, host_keys_B, stream).float().to(keys_B.device)
    return uniforms(seed, epoch, keys_B, stream).float()


def uniforms(seed: int, epoch: int, keys_B: Tensor, stream: Stream | None = None) -> Tensor:
    """B x num float64 numbers in [0, 1) on the keys' device; without `stream` those of all streams, B x NUM_DRAWS.

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) over seed, epoch, key and index; int64 wraps around like uint64.
    keys: rows, plus REPEAT and ATTEMPT times their numbers.
    """
    first, num = (stream.first, stream.num) if stream is not None else (0, NUM_DRAWS)
    state_B = _mix(torch.full_like(keys_B, seed))
    state_B = _mix(state_B ^ epoch)
    state_B = _mix(state_B ^ keys_B)
    places = torch.arange(first + 1, first + num + 1, device=keys_B.device) * _GOLDEN
    bits_Bn = _mix(state_B[:, None] + places[None, :])
    return _shift_right(bits_Bn, 11).double() / float(1 << 53)


def _signed(unsigned: int) -> int:
    return unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned


_GOLDEN = _signed(0x9E3779B97F4A7C15)


def _mix(state: Tensor) -> Tensor:
    state = state + _GOLDEN
    state = (state ^ _shift_right(state, 30)) * _signed(0xBF58476D1CE4E5B9)
    state = (state ^ _shift_right(state, 27)) * _signed(0x94D049BB133111EB)
    return state ^ _shift_right(state, 31)


def _shift_right(state: Tensor, bits: int) -> Tensor:
    """A logical shift, as for unsigned integers."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def integers(uniform_B: Tensor, bound: int) -> Tensor:
    """Uniform integers in 0..bound-1."""
    return (uniform_B * bound).long().clamp_(max=bound - 1)


def symmetric(uniform_B: Tensor, limit: float) -> Tensor:
    """Uniform numbers between -limit and limit."""
    return (2 * uniform_B - 1) * limit
