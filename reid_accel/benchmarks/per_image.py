"""The usual input pipeline, as a baseline: a DataLoader that opens, resizes and augments images one by one with
Pillow and torchvision."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision.transforms as T
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reid_accel.config.schema import AugmentConfig, Config, ModelConfig
from reid_accel.data.dataset import Ints
from reid_accel.data.images import read_image
from reid_accel.data.splits import TrainingSet
from reid_accel.errors import InputError
from reid_accel.models.backbone import normalization
from reid_accel.training.dataloader import Batch, Labels


class WhiteBalance(torch.nn.Module):
    """Scale each color channel by a random factor in 1 ± spread; torchvision has no such transform."""

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.spread = spread

    def forward(self, image_3HW: Tensor) -> Tensor:
        """Augment a float image in 0..1."""
        gains = 1 + (2 * torch.rand(3, 1, 1) - 1) * self.spread
        return (image_3HW * gains).clamp(0, 1)


def usual_transform(size: ModelConfig, config: AugmentConfig) -> T.Compose:
    """torchvision's transforms for the same settings, in the order that re-ID trainers apply them.

    Raises InputError for random patches and for OpenCV's resize, which torchvision doesn't have.
    """
    if config.patch_probability:
        raise InputError("the per-image pipeline has no random patches: set --augment.patch-probability 0")
    mean, std = normalization(size.backbone)
    nothing = tuple(round(255 * value) for value in mean)
    if size.interpolation == "cv2":
        raise InputError("torchvision always antialiases images: set --model.interpolation bilinear")
    steps: list[Any] = [T.Resize((size.height_px, size.width_px), T.InterpolationMode(size.interpolation))]
    if config.color_jitter:
        steps.append(T.ColorJitter(*(config.color_jitter,) * 3))
    if config.grayscale_probability:
        steps.append(T.RandomGrayscale(config.grayscale_probability))
    if config.rotation_degrees:
        steps.append(T.RandomRotation(config.rotation_degrees, T.InterpolationMode.BILINEAR, fill=nothing))
    if config.pad_px:
        steps += [T.Pad(config.pad_px, fill=nothing), T.RandomCrop((size.height_px, size.width_px))]
    if config.flip_probability:
        steps.append(T.RandomHorizontalFlip(config.flip_probability))
    if config.trivial_augment:
        steps.append(T.RandomApply([T.TrivialAugmentWide(fill=list(nothing))], config.trivial_augment))
    steps.append(T.ToTensor())
    if config.white_balance:
        steps.append(WhiteBalance(config.white_balance))
    steps.append(T.Normalize(mean, std))
    if config.erase_probability:
        areas = (config.erase_min_area, config.erase_max_area)
        value: Any = "random" if config.erase_with == "noise" else 0
        steps.append(T.RandomErasing(config.erase_probability, areas, (0.3, 1 / 0.3), value))
    return T.Compose(steps)


class ImageFiles(Dataset[tuple[Tensor, int]]):
    """Images opened and augmented one at a time, each with its row."""

    def __init__(self, paths: Sequence[Path], transform: T.Compose) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(read_image(self.paths[row])), row


@dataclass(frozen=True)
class PerImageInput:
    """A replacement for `training.dataloader.DeviceInput`."""

    files: ImageFiles
    labels: Labels
    device: torch.device
    workers: int = 0

    def batches(
        self, row_lists: Sequence[Ints], epoch: int, repeat_lists: Sequence[Ints] | None = None
    ) -> Generator[Batch]:
        """See `TrainingInput`; randomness comes from torch's global generator."""
        loader = DataLoader(
            self.files,
            batch_sampler=[rows_B.tolist() for rows_B in row_lists],
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
        )
        for images_BCHW, row_B in loader:
            on_device = images_BCHW.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            yield self.labels.batch(on_device, row_B.to(self.device, non_blocking=True))


def per_image_input(data: TrainingSet, config: Config, device: torch.device, workers: int = 0) -> PerImageInput:
    """The usual pipeline for the images that a run trains on."""
    files = ImageFiles(data.images.path_N, usual_transform(config.model, config.augment))
    return PerImageInput(files, Labels.of(data, device), device, workers)
