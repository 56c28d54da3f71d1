"""The content of a saved model's `config.json`: everything needed to rebuild the network and prepare its input."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.augment.ops import IMAGENET_MEAN, IMAGENET_STD
from reid_accel.config.schema import ModelConfig
from reid_accel.errors import InputError
from reid_accel.version import __version__


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The settings of the network, and what depends on its training data.

    frozen_statistics: the backbone's batch norm uses its running statistics in training, too. The neck's batch norm
    doesn't, since it has no pretrained statistics.
    backbone_module: the Python module that registers the backbone's name, for backbones that are not timm's own.
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
    software: str = field(default=__version__, compare=False)

    def __post_init__(self) -> None:
        # JSON returns lists for tuples
        for name in ("groups", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Architecture":
        """The architecture in the content of a `config.json`. Raises InputError for unknown or invalid fields."""
        _check_fields(cls, content, "")
        _check_fields(ModelConfig, content.get("model", {}), "model.")
        groups = tuple(AttributeGroup(**group) for group in content.get("groups", ()))
        return cls(**{**content, "groups": groups, "model": ModelConfig(**content.get("model", {}))})

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


def _check_fields(kind: type[Any], content: Mapping[str, Any], prefix: str) -> None:
    unknown = sorted(set(content) - {each.name for each in fields(kind)})
    if unknown:
        raise InputError(
            f"the model's config.json has unknown fields ({', '.join(prefix + name for name in unknown)}): it was "
            "written by another version of reid_accel; load it with that version, or train the model again"
        )
