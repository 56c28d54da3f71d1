"""What an exported file says about itself: JSON in the file, under the name `reid_accel`."""

import json
import platform
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.config.export_graph import GraphOptions
from reid_accel.config.strict import from_json, parsed_json
from reid_accel.data.images import LETTERBOX_COLOR
from reid_accel.errors import InputError
from reid_accel.export.graph import attribute_outputs, callers_normalization, has_unit_length
from reid_accel.models.reid import ReIDModel, model_fingerprint
from reid_accel.version import __version__

KEY = "reid_accel"
"""The name of the entry in the file's own metadata."""
HASH_KEY = "reid_accel_sha256"
"""The name of the entry with the hash of all that the file holds beside its metadata."""


@dataclass(frozen=True, kw_only=True)
class GraphInfo:
    """What a graph expects, from an image's pixels on, and what it returns.

    An image is brought to height x width as `fit` says (`letterbox` pads with `padding`), its channels to the order
    `color`, a white pixel to the value `pixel_range`. With `normalize` `caller`, the caller then computes
    (pixels - mean) / std; with `graph`, that is part of the graph. mean, std: for pixels from 0 to 1, red first.
    """

    backbone: str
    height_px: int
    width_px: int
    fit: str
    interpolation: str
    color: str
    pixel_range: int
    normalize: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    metric: str
    unit_length: bool
    feature_size: int
    input_name: str = "images"
    output_names: tuple[str, ...] = ("output0",)
    """The feature, then one output for each group of `attributes`."""
    attributes: tuple[AttributeGroup, ...] = ()
    precision: str = "float32"
    """float32, half, or int8."""
    padding: tuple[int, ...] = LETTERBOX_COLOR
    """Red, green, blue, from 0 to 255."""
    mean_ap_float32: float | None = None
    """Of an int8 file: the mAP of the run's query and gallery before quantization, and `mean_ap`, after it."""
    mean_ap: float | None = None
    model_fingerprint: str = ""
    """Of the model that was exported: the one that saved features name."""
    software: tuple[str, ...] = ()
    """The packages that wrote the file, with their versions."""

    def __post_init__(self) -> None:
        for name in ("mean", "std", "output_names", "attributes", "padding", "software"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def groups(self) -> tuple[AttributeGroup, ...]:
        """The attribute groups whose probabilities the graph returns."""
        return self.attributes

    @property
    def num_attribute_values(self) -> int:
        """The number of values of all groups."""
        return sum(len(group.values) for group in self.attributes)

    @property
    def flavor(self) -> str:
        """`raw` or `inside`, as in `GraphOptions`."""
        return "inside" if self.normalize == "graph" else "raw"

    @property
    def bgr(self) -> bool:
        """Whether blue comes first."""
        return self.color == "bgr"

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), allow_nan=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, place: str) -> "GraphInfo":
        """The content of a file's metadata. Raises InputError, which names the place, where it isn't right."""
        try:
            return from_json(cls, parsed_json(text), complete=False)
        except InputError as error:
            raise InputError(
                f"{place}: its metadata of this package cannot be used ({error}); export it again"
            ) from error


def info_of(model: ReIDModel, options: GraphOptions) -> GraphInfo:
    """The description of a model's graph."""
    architecture = model.architecture
    mean, std = callers_normalization(architecture, options)
    groups = architecture.groups if options.with_attributes else ()
    return GraphInfo(
        backbone=architecture.model.backbone,
        height_px=architecture.height_px,
        width_px=architecture.width_px,
        fit=architecture.fit,
        interpolation=architecture.interpolation,
        color="bgr" if options.bgr else "rgb",
        pixel_range=options.pixel_range,
        normalize="graph" if options.flavor == "inside" else "caller",
        mean=mean,
        std=std,
        metric=architecture.metric,
        unit_length=has_unit_length(options, architecture.metric),
        feature_size=model.feature_size,
        input_name=options.input_name,
        output_names=(options.output_name, *attribute_outputs(groups)),
        attributes=groups,
        precision="half" if options.half else "float32",
        model_fingerprint=model_fingerprint(model),
        software=(f"reid_accel {__version__}", f"python {platform.python_version()}", *_versions()),
    )


def _versions() -> Iterator[str]:
    for name in ("torch", "timm", "onnx", "onnxscript", "onnxruntime", "openvino"):
        with suppress(PackageNotFoundError):
            yield f"{name} {version(name)}"
