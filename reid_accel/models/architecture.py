"""The content of a saved model's `config.json`: everything needed to rebuild the network and prepare its input."""

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.augment.ops import IMAGENET_MEAN, IMAGENET_STD
from reid_accel.config.checks import check
from reid_accel.config.schema import ModelConfig
from reid_accel.config.strict import from_json
from reid_accel.errors import InputError
from reid_accel.version import __version__


@dataclass(frozen=True, kw_only=True)
class Cameras:
    """Numbers of cameras, ascending, and the data set whose numbers these are ("": it has no name)."""

    numbers: tuple[int, ...] = ()
    data_set: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", tuple(self.numbers))
        in_order = all(first < second for first, second in itertools.pairwise(self.numbers))
        check(in_order, "cameras.numbers", "ascending", self.numbers)


NO_CAMERAS = Cameras()


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The settings of the network, and what depends on its training data.

    frozen_statistics: the backbone's batch norm uses its running statistics in training, too. The neck's batch norm
    doesn't, since it has no pretrained statistics.
    weights, weights_sha256: the name and the file's hash of the weights that training started from, None for random
    ones or an unknown file.
    backbone_module: the Python module that registers the backbone's name, for backbones that are not timm's own.
    cameras: those with a learned vector (see `models.camera_embedding`).
    software: the version of this package that wrote the model.
    """

    model: ModelConfig
    groups: tuple[AttributeGroup, ...] = ()
    num_identities: int = 0
    keeps_centers: bool = False
    frozen_statistics: bool = False
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    backbone_module: str | None = None
    weights: str | None = None
    weights_sha256: str | None = None
    cameras: Cameras = NO_CAMERAS
    software: str = field(default=__version__, compare=False)

    def __post_init__(self) -> None:
        # JSON returns lists for tuples
        for name in ("groups", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check(self.num_identities >= 0, "num_identities", "0 or more", self.num_identities)
        check(len(self.mean) == 3, "mean", "three numbers", self.mean)
        check(len(self.std) == 3 and min(self.std) > 0, "std", "three numbers above 0", self.std)
        twice = [name for name, number in Counter(group.name for group in self.groups).items() if number > 1]
        check(not twice, "groups", "attribute groups of different names", twice)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Architecture":
        """The architecture in the content of a `config.json`.

        Raises InputError, which says what version wrote the file, for fields that are unknown, missing or invalid. A
        file of another version may lack fields that were added since: their defaults are what there was before.
        """
        version = content.get("software") if isinstance(content, Mapping) else None
        known = isinstance(version, str) and version != ""
        try:
            return from_json(cls, content, complete=not known or version == __version__)
        except InputError as error:
            writer = f"reid_accel {str(version)[:40]}" if known else "an unknown version of reid_accel"
            raise InputError(
                f"the model's config.json was written by {writer} and cannot be used by {__version__}: {error}; load "
                "it with the version that wrote it, or train the model again"
            ) from error

    @property
    def num_attribute_values(self) -> int:
        """M: 41 for Market-1501's vocabulary."""
        return sum(len(group.values) for group in self.groups)

    @property
    def num_parts(self) -> int:
        """P: the total number of stripes; 1 for global pooling."""
        return sum(self.model.stripes)

    @property
    def metric(self) -> str:
        """The distance that retrieval uses."""
        return self.model.metric

    @property
    def height_px(self) -> int:
        """Input height."""
        return self.model.height_px

    @property
    def width_px(self) -> int:
        """Input width."""
        return self.model.width_px

    @property
    def interpolation(self) -> str:
        """Interpolation of the resize."""
        return self.model.interpolation

    @property
    def fit(self) -> str:
        """How images are fitted to the input's shape."""
        return self.model.fit
