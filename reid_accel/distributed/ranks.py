"""What ranks tell each other while they search a shared gallery, as plain functions, so that the search itself
needs no process group and runs the same on one rank."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from reid_accel.errors import InputError

Result = TypeVar("Result")


@dataclass(frozen=True)
class Ranks:
    """Exchanges that every rank takes part in, in the same order."""

    add_up: Callable[[torch.Tensor], torch.Tensor]
    """The sum of one tensor over all ranks, for every rank."""
    stack: Callable[[torch.Tensor], torch.Tensor]
    """All ranks' tensors of one shape [W, ...], by rank, for every rank."""
    share_error: Callable[[str | None], None]
    """Tell the others what is wrong here (None: nothing); raises InputError where only another rank has an error."""
    collect: Callable[[torch.Tensor], torch.Tensor | None]
    """All ranks' rows [.., D] one after the other, for rank 0; None for the others."""

    def together(self, work: Callable[[], Result]) -> Result:
        """Do what may fail on some ranks only, such as a check of their own rows; then all fail, or none."""
        try:
            result = work()
        except InputError as error:
            self.share_error(str(error))
            raise
        self.share_error(None)
        return result


ALONE = Ranks(
    add_up=lambda tensor: tensor,
    stack=lambda tensor: tensor[None],
    share_error=lambda message: None,
    collect=lambda tensor: tensor,
)
"""A single rank."""
