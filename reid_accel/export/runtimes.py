"""Running exported files, each by its own runtime: ONNX Runtime, OpenVINO, TorchScript, torch.export.

Legend: B batch, D feature, H W pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_accel.augment.ops import normalize
from reid_accel.config.export_graph import FORMATS
from reid_accel.errors import InputError, first_line
from reid_accel.export import onnx_file, openvino_file, torch_files
from reid_accel.export.manifest import check_hash
from reid_accel.export.metadata import GraphInfo
from reid_accel.export.opened import Opened
from reid_accel.files import check_regular

Arrays = list[npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Runtime:
    """An exported file, ready to run."""

    path: Path
    opened: Opened

    @property
    def info(self) -> GraphInfo | None:
        """What the file says about itself; None for one that isn't ours."""
        return self.opened.info

    def run(self, images_B3HW: npt.NDArray[np.float32]) -> Arrays:
        """The feature and the other outputs, float32, for images as the graph expects them.

        Raises InputError for a batch that the graph can't take.
        """
        try:
            outputs = self.opened.call(np.ascontiguousarray(images_B3HW, np.float32))
        except self.opened.errors as error:
            raise InputError(
                f"{self.path} cannot take a batch of {len(images_B3HW)} images ({first_line(error)})"
            ) from error
        return [np.asarray(output, np.float32) for output in outputs]

    def features(self, images_B3HW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The first output."""
        return self.run(images_B3HW)[0]


def open_runtime(path: Path) -> Runtime:
    """Load an exported file by its suffix.

    Raises InputError for another suffix, a missing package, and a file that is damaged or was changed after it was
    written. Nothing in a file is run as Python.
    """
    openers: dict[str, Callable[[Path], Opened]] = {
        FORMATS["onnx"]: onnx_file.opened,
        FORMATS["openvino"]: openvino_file.opened,
        FORMATS["torchscript"]: torch_files.opened_torchscript,
        FORMATS["torch-export"]: torch_files.opened_program,
    }
    if path.suffix not in openers:
        raise InputError(f"{path} is no exported model: its name must end with {', '.join(openers)}")
    check_regular(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: name the exported file in it")
    check_hash(path)
    return Runtime(path, openers[path.suffix](path))


def graph_input(images_B3HW: Tensor, info: GraphInfo) -> npt.NDArray[np.float32]:
    """RGB images at the network's size, float from 0 to 1, as the graph expects them."""
    images = images_B3HW if info.normalize == "graph" else normalize(images_B3HW, info.mean, info.std)
    images = images.flip(1) if info.bgr else images
    scaled = images * info.pixel_range if info.normalize == "graph" else images
    return np.ascontiguousarray(scaled.cpu().numpy(), np.float32)


def run_in_batches(runtime: Runtime, images_N3HW: Tensor, info: GraphInfo, batch_size: int) -> Arrays:
    """All outputs for images as in `graph_input`, in their order. Raises InputError for an answer of another length."""
    parts: list[Arrays] = []
    for images_B3HW in images_N3HW.split(batch_size):
        outputs = runtime.run(graph_input(images_B3HW, info))
        wrong = [output for output in outputs if output.ndim != 2 or len(output) != len(images_B3HW)]
        if wrong:
            shape = " x ".join(map(str, wrong[0].shape))
            raise InputError(f"{runtime.path} returns {shape} numbers for a batch of {len(images_B3HW)} images")
        parts.append(outputs)
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def as_tensor(pixels_NHW3: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8]) -> Tensor:
    """uint8 images, N x H x W x 3, as float from 0 to 1, N x 3 x H x W."""
    return torch.from_numpy(np.ascontiguousarray(pixels_NHW3)).permute(0, 3, 1, 2).float() / 255.0
