"""A user's own data and losses, passed from Python in addition to the settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from reid_accel.data.listing import Listing
from reid_accel.models.outputs import Outputs
from reid_accel.training.dataloader import Batch

Loss = Callable[[Outputs, Batch], Tensor]
"""A loss term: outputs and labels of a batch to a scalar, already weighted."""


@dataclass(frozen=True)
class Additions:
    """A data set that replaces the one in the settings, and additional loss terms by name."""

    listing: Listing | None = None
    losses: Mapping[str, Loss] = field(default_factory=dict)


NOTHING = Additions()
