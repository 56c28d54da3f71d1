"""What a checkpoint doesn't say about its network, for whoever knows it.

No torch here, since these are flags of a command.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class PublishedSettings:
    """What a file doesn't say about its network; unset: as published with its scheme."""

    height_px: int | None = None
    """Input height."""
    width_px: int | None = None
    """Input width."""
    last_stride: Literal[1, 2] | None = None
    """Stride of a ResNet's last stage."""
    stem: Literal["relu", "no-relu", "ceil-pool"] | None = None
    """Stem of a ResNet (see `reid-accel train --help model`)."""
    pooling: Literal["avg", "max", "gem"] | None = None
    """Global pooling; GeM's exponent must be in the file."""
    patch_stride: int | None = None
    """Stride of a ViT's patches."""
    source: Literal["torchvision"] | None = None
    """Where a ResNet without classifier is from: it is taken for LUPerson's, `torchvision` normalizes as ImageNet."""

    def changes(self) -> dict[str, Any]:
        """The settings of the network that are given."""
        return {name: value for name, value in asdict(self).items() if value is not None and name != "source"}
