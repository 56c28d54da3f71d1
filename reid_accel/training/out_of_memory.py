"""Out-of-memory errors of a training step name a setting that fits."""

import gc
import traceback
from types import TracebackType

import torch

from reid_accel.errors import InputError
from reid_accel.models.losses import total
from reid_accel.training.trainer import Trainer


class OutOfMemoryAdvice:
    """Around training steps: replaces torch's error by an InputError with the largest micro-batch that fits."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, torch.OutOfMemoryError):
            traceback.clear_frames(trace)  # their frames hold the activations that filled the memory
            raise InputError(advice(self.trainer)) from error


def advice(trainer: Trainer) -> str:
    """The error message; with a single process, smaller micro-batches are tried to find one that fits."""
    train, processes = trainer.config.train, trainer.accelerator.num_processes
    micro = train.batch_size // processes // train.accumulation_steps
    problem = f"the GPU's memory{_size(trainer.accelerator.device)} is too small for {micro} images at once"
    if processes > 1:
        return f"{problem}: take fewer with --train.accumulation-steps {2 * train.accumulation_steps}"
    parts = fitting_parts(trainer, micro)
    if parts is None:
        return f"{problem}, and for any number of them: choose a smaller network or input (--model.height-px)"
    return (
        f"{problem}; {micro // parts} fit: set --train.accumulation-steps {parts * train.accumulation_steps}, which "
        "trains on the same batch in smaller parts, or lower --train.batch-size"
    )


def fitting_parts(trainer: Trainer, micro: int) -> int | None:
    """The number of equal parts that a micro-batch must be divided into to fit; None if not even two images fit."""
    parts = 2
    while micro % parts == 0 and micro // parts >= 2:
        if _fits(trainer, micro // parts):
            return parts
        parts *= 2
    return None


def _fits(trainer: Trainer, number: int) -> bool:
    trainer.optimizer.zero_grad()
    gc.collect()
    torch.cuda.empty_cache()
    try:
        _step(trainer, number)
    except torch.OutOfMemoryError:
        return False
    return True


def _step(trainer: Trainer, number: int) -> None:
    """A step on `number` images including the optimizer's; the weights are unusable afterwards."""
    rows_B = trainer.epoch_batches(0)[0][:number]
    batch = next(trainer.input.batches([rows_B], epoch=0))
    outputs = trainer.model(batch.images_BCHW, batch.camera_B)
    total(trainer.loss_terms(outputs, batch, trainer.pairs(outputs, batch))).backward()
    trainer.optimizer.step()


def _size(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    return f" ({torch.cuda.get_device_properties(device).total_memory / 2**30:.0f} GiB)"
