"""An exported file as a model that images are embedded with: ours by its metadata, others as the user says.

Legend: B batch, D feature, H W pixels.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reid_accel.augment.ops import IMAGENET_MEAN, IMAGENET_STD
from reid_accel.config.export_graph import FORMATS
from reid_accel.config.scoring import is_exported
from reid_accel.errors import InputError, listed
from reid_accel.export.metadata import GraphInfo
from reid_accel.export.runtimes import Runtime, graph_input, open_runtime
from reid_accel.files import sha256
from reid_accel.models.reid import ReIDModel, load_model, model_fingerprint

Preprocess = Literal["imagenet", "half", "inside"]

HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class ExportedModel:
    """A runtime with a file, what the file expects, and its hash.

    batch_size: of a graph that takes one number of images only, else None.
    """

    runtime: Runtime
    architecture: GraphInfo
    sha256: str
    batch_size: int | None = None

    @property
    def feature_size(self) -> int:
        return self.architecture.feature_size

    def outputs(self, images_B3HW: Tensor) -> list[Tensor]:
        """The feature and the attributes' probabilities, for RGB images from 0 to 1 at the network's size."""
        whole = graph_input(images_B3HW, self.architecture)
        if self.batch_size is None:
            found = [self.runtime.run(whole)]
        else:
            found = [
                self._padded(whole[start : start + self.batch_size]) for start in range(0, len(whole), self.batch_size)
            ]
        outputs = [torch.from_numpy(np.concatenate(parts)) for parts in zip(*found, strict=True)]
        feature_BD = outputs[0]
        if feature_BD.shape != (len(images_B3HW), self.feature_size):
            shape = " x ".join(map(str, feature_BD.shape))
            raise InputError(
                f"{self.runtime.path} returns {shape} numbers for a batch of {len(images_B3HW)} images, not one "
                f"feature of {self.feature_size} numbers for each"
            )
        return outputs

    def _padded(self, images_B3HW: np.ndarray) -> list[np.ndarray]:
        """The outputs of a graph with a fixed batch size, for at most as many images."""
        assert self.batch_size is not None
        missing = self.batch_size - len(images_B3HW)
        filled = np.concatenate([images_B3HW, np.repeat(images_B3HW[-1:], missing, axis=0)])
        return [output[: len(images_B3HW)] for output in self.runtime.run(filled)]


Embedder = ReIDModel | ExportedModel


def load_embedder(name: str, module: str | None = None, preprocess: Preprocess | None = None) -> Embedder:
    """A saved model, or an exported file by its suffix. preprocess: of a file that isn't this package's.

    Raises InputError when it can't be loaded, or isn't a network from images to one feature each.
    """
    return load_exported(Path(name), preprocess) if is_exported(name) else load_model(name, module)


def load_exported(path: Path, preprocess: Preprocess | None = None) -> ExportedModel:
    """An exported file. Raises InputError when it is damaged, or its input can't be known."""
    runtime = open_runtime(path)
    info = runtime.info
    if info is not None and preprocess is not None:
        raise InputError(f"{path} says itself how images are prepared for it: leave --preprocess out")
    if info is None:
        info = foreign_info(runtime, preprocess)
    return ExportedModel(runtime, info, file_hash(path), next(iter(runtime.opened.inputs.values()), (None,))[0])


def foreign_info(runtime: Runtime, preprocess: Preprocess | None) -> GraphInfo:
    """What a file that isn't this package's expects, from its shapes and what the user says.

    Raises InputError unless it has one input N x 3 x H x W and one output N x D, and the preprocessing is given.
    """
    path, inputs, outputs = runtime.path, runtime.opened.inputs, runtime.opened.outputs
    if path.suffix not in (FORMATS["onnx"], FORMATS["openvino"]):
        raise InputError(
            f"{path} wasn't exported by this package, which scores others' files in the form .onnx or .xml"
        )
    if len(outputs) != 1:
        raise InputError(
            f"{path} wasn't exported by this package and has {len(outputs)} outputs ({listed(outputs)}): export it "
            "with the feature as its only output"
        )
    (image,), (feature,) = inputs.values(), outputs.values()
    if len(image) != 4 or image[1] != 3 or image[2] is None or image[3] is None:
        raise InputError(
            f"{path} has the input {_words(image)}, but images are N x 3 x height x width, of a fixed size"
        )
    if len(feature) != 2 or feature[1] is None:
        raise InputError(f"{path} has the output {_words(feature)}, but features are N x D: export it without its head")
    if preprocess is None:
        raise InputError(
            f"{path} wasn't exported by this package and doesn't say how images are prepared for it: give --preprocess "
            "imagenet (ImageNet's mean and standard deviation), half (0.5 and 0.5) or inside (pixels from 0 to 1)"
        )
    mean, std = (HALF, HALF) if preprocess == "half" else (IMAGENET_MEAN, IMAGENET_STD)
    return GraphInfo(
        backbone=path.name,
        height_px=image[2],
        width_px=image[3],
        fit="stretch",
        interpolation="bilinear",
        color="rgb",
        pixel_range=1,
        normalize="graph" if preprocess == "inside" else "caller",
        mean=mean,
        std=std,
        metric="cosine",
        unit_length=False,
        feature_size=feature[1],
        input_name=next(iter(inputs)),
        output_names=tuple(outputs),
    )


def _words(shape: tuple[int | None, ...]) -> str:
    return " x ".join("any" if length is None else str(length) for length in shape) or "a single number"


def file_hash(path: Path) -> str:
    """The SHA-256 of a file; of an OpenVINO model, of both of its files' hashes."""
    weights = path.with_suffix(".bin")
    if path.suffix != FORMATS["openvino"] or not weights.is_file():
        return sha256(path)
    return hashlib.sha256(f"{sha256(path)} {sha256(weights)}".encode()).hexdigest()


def fingerprint_of_model(model: Embedder) -> str:
    """A hash of a network, or of an exported file."""
    return model_fingerprint(model) if isinstance(model, ReIDModel) else f"file {model.sha256[:16]}"
