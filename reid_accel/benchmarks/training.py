"""Whether the training device waits for data: the network alone, the full loop and the input alone, alternating.

Legend: B images of a micro-batch.
"""

import statistics
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count, repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from reid_accel.benchmarks.counting import copy_rate, count_work, peak_mib, product_rate, synchronize
from reid_accel.data.dataset import Ints
from reid_accel.files import write_json
from reid_accel.hardware import num_cores, tf32
from reid_accel.models.losses import Pairs, total
from reid_accel.models.reid import ReIDModel
from reid_accel.training.dataloader import Batch, DeviceInput, TrainingInput
from reid_accel.training.metrics import EpochSums
from reid_accel.training.trainer import Trainer

if TYPE_CHECKING:
    from rich.console import Console

RESIDENT = "network: one resident batch"
LOOP = "full loop, real data"
INPUT = "input alone, augmented"
CROPS = "crops to the device alone"
PER_IMAGE_LOOP = "full loop, per image (PIL)"
PER_IMAGE_INPUT = "input alone, per image (PIL)"
PLAIN = "network: plain float32, NCHW"
TURNS = 5
LIMITED_BY_INPUT = 0.95  # below this share of the network's speed, the network waits for its input
LARGE_ENOUGH = 0.95  # the smallest batch that reaches this share of the best speed is recommended


@dataclass(frozen=True)
class Measured:
    """Images per second over all processes, and the ratio to the network alone in the same turn; both are medians."""

    title: str
    images_per_second: float
    ratio: float


@dataclass(frozen=True)
class TrainingFigures:
    """The benchmark's results; None where not measurable."""

    hardware: str
    precision: str
    lines: tuple[Measured, ...]
    peak_mib: float
    gflops_per_image: float
    mbytes_per_image: float
    share_of_product_rate: float
    share_of_copy_rate: float
    speed_by_batch: dict[int, float] | None
    recommended_batch: int | None


def run(
    trainer: Trainer,
    console: "Console",
    *,
    steps: int,
    per_image: TrainingInput | None = None,
    plain: bool = False,
    json_path: Path | None = None,
) -> TrainingFigures:
    """Measure and print; every process calls it. steps: optimizer steps per turn; 0: about two seconds of steps."""
    with tf32(trainer.config.run.tf32):
        figures = _measure(trainer, steps, per_image, plain)
    if trainer.accelerator.is_main_process:
        print_figures(console, figures, trainer)
        if json_path is not None:
            write_json(json_path, asdict(figures))
    return figures


def _measure(trainer: Trainer, steps: int, per_image: TrainingInput | None, plain: bool) -> TrainingFigures:
    device = trainer.accelerator.device
    batch = random_batch(trainer, _micro_batch(trainer))
    steps = steps or _steps_of_two_seconds(trainer, batch)
    ways = _ways(trainer, batch, per_image, plain)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = take_turns(trainer, {title: partial(way, steps) for title, way in ways.items()})
    images = steps * trainer.config.train.batch_size
    lines = tuple(
        Measured(
            title,
            images / statistics.median(taken),
            statistics.median(network / own for network, own in zip(seconds[RESIDENT], taken, strict=True)),
        )
        for title, taken in seconds.items()
    )
    peak = peak_mib(device)
    operations, traffic = count_work(lambda: _forward_backward(trainer, batch))
    speed = lines[0].images_per_second / trainer.accelerator.num_processes  # of one device
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(trainer.accelerator.mixed_precision, torch.float32)
    size = len(batch.identity_B)
    sizes = _speed_by_batch(trainer) if trainer.accelerator.num_processes == 1 else None
    return TrainingFigures(
        hardware=_hardware(trainer),
        precision=trainer.accelerator.mixed_precision,
        lines=lines,
        peak_mib=peak,
        gflops_per_image=operations / size / 1e9,
        mbytes_per_image=traffic / size / 1e6,
        share_of_product_rate=operations / size * speed / product_rate(device, dtype),
        share_of_copy_rate=traffic / size * speed / copy_rate(device),
        speed_by_batch=sizes,
        recommended_batch=recommended(sizes) if sizes else None,
    )


def _ways(
    trainer: Trainer, batch: Batch, per_image: TrainingInput | None, plain: bool
) -> dict[str, Callable[[int], None]]:
    """What is timed, as functions of the number of optimizer steps."""

    def train(batches: Iterator[Batch], steps: int) -> None:
        sums = EpochSums.restored({}, trainer.accelerator)
        for step in range(steps):
            sums = trainer.step(batches, step, sums)

    def loop(source: TrainingInput, steps: int) -> None:
        with closing(_real_batches(trainer, source, steps)) as batches:
            train(batches, steps)

    def drain(source: TrainingInput, steps: int) -> None:
        for _ in _real_batches(trainer, source, steps):
            pass

    ways: dict[str, Callable[[int], None]] = {
        RESIDENT: lambda steps: train(repeat(batch), steps),
        LOOP: lambda steps: loop(trainer.input, steps),
        INPUT: lambda steps: drain(trainer.input, steps),
    }
    if isinstance(trainer.input, DeviceInput):
        stored = trainer.input

        def crops_alone(steps: int) -> None:
            for _ in stored.crops.batches(stored.row_N[rows_B] for rows_B in _rows(trainer, steps)):
                pass

        ways[CROPS] = crops_alone
    if per_image is not None:
        ways[PER_IMAGE_LOOP] = lambda steps: loop(per_image, steps)
        ways[PER_IMAGE_INPUT] = lambda steps: drain(per_image, steps)
    if plain:
        ways[PLAIN] = _plain_way(trainer, batch)
    return ways


def _plain_way(trainer: Trainer, batch: Batch) -> Callable[[int], None]:
    """The same network trained the usual way: float32, channels first, an optimizer that loops over parameters."""
    model = ReIDModel(trainer.unwrapped.architecture).to(trainer.accelerator.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, foreach=False)
    images_BCHW = batch.images_BCHW.contiguous(memory_format=torch.contiguous_format)

    def train(steps: int) -> None:
        for _ in range(steps * trainer.config.train.accumulation_steps):
            outputs = model(images_BCHW)
            pairs = Pairs(outputs.metric_feature_BE, batch.identity_B)
            total(trainer.loss_terms(outputs, batch, pairs)).backward()
            optimizer.step()
            optimizer.zero_grad()

    return train


def take_turns(
    trainer: Trainer, ways: dict[str, Callable[[], None]], turns: int = TURNS
) -> dict[str, tuple[float, ...]]:
    """Seconds of each way in each turn, after a warm-up turn; all processes start together."""
    device, taken = trainer.accelerator.device, {title: list[float]() for title in ways}
    for turn in range(turns + 1):
        for title, way in ways.items():
            trainer.accelerator.wait_for_everyone()
            synchronize(device)
            begun = time.perf_counter()
            way()
            synchronize(device)
            trainer.accelerator.wait_for_everyone()
            if turn:
                taken[title].append(time.perf_counter() - begun)
    return {title: tuple(seconds) for title, seconds in taken.items()}


def _real_batches(trainer: Trainer, source: TrainingInput, steps: int) -> Generator[Batch]:
    return source.batches(_rows(trainer, steps), epoch=0)


def _rows(trainer: Trainer, steps: int) -> list[Ints]:
    """This process's rows for a number of optimizer steps, over as many epochs as needed."""
    rows_SB = trainer.epoch_batches(epoch=0)
    for epoch in count(1):
        if len(rows_SB) >= steps:
            break
        rows_SB = np.concatenate([rows_SB, trainer.epoch_batches(epoch)])
    return trainer.shares(rows_SB[:steps])


def random_batch(trainer: Trainer, size: int) -> Batch:
    """A batch of noise on the device, in the network's memory format."""
    architecture, device = trainer.unwrapped.architecture, trainer.accelerator.device
    images = torch.randn(size, 3, architecture.height_px, architecture.width_px, device=device)
    values = [torch.arange(size, device=device) % len(group.values) for group in architecture.groups]
    rows = torch.arange(size, device=device)
    return Batch(
        images_BCHW=images.contiguous(memory_format=torch.channels_last),
        identity_B=rows % architecture.num_identities,
        camera_B=rows % 2,
        attributes_BA=torch.stack(values, 1) if values else torch.empty((size, 0), dtype=torch.int64, device=device),
        row_B=rows,
    )


def _micro_batch(trainer: Trainer) -> int:
    return trainer.config.micro_batch_size(trainer.accelerator.num_processes)


def _forward_backward(trainer: Trainer, batch: Batch) -> None:
    outputs = trainer.unwrapped(batch.images_BCHW)
    trainer.accelerator.backward(total(trainer.loss_terms(outputs, batch, trainer.pairs(outputs, batch))))
    trainer.optimizer.zero_grad()


def seconds_of_step(trainer: Trainer, batch: Batch, turns: int = 3) -> float:
    """Median seconds of an optimizer step on the same batch, after a warm-up step."""
    device, taken = trainer.accelerator.device, []
    sums = EpochSums.restored({}, trainer.accelerator)
    for _ in range(turns + 1):
        synchronize(device)
        begun = time.perf_counter()
        trainer.step(repeat(batch), 0, sums)
        synchronize(device)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[1:])


def _steps_of_two_seconds(trainer: Trainer, batch: Batch) -> int:
    """About two seconds of optimizer steps; the same number on every process."""
    steps = torch.tensor(2.0 / seconds_of_step(trainer, batch), device=trainer.accelerator.device)
    total = trainer.accelerator.reduce(steps, reduction="mean")
    assert isinstance(total, torch.Tensor)
    return max(4, int(total.item()))


def _speed_by_batch(trainer: Trainer) -> dict[int, float]:
    """Images per second of the network alone, doubling the batch size up to a limit or until memory runs out."""
    speeds: dict[int, float] = {}
    size, largest = 8, 2048 if trainer.accelerator.device.type == "cuda" else 128
    while size <= largest:
        try:
            seconds = seconds_of_step(trainer, random_batch(trainer, size))
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        speeds[size] = size * trainer.config.train.accumulation_steps / seconds
        size *= 2
    return speeds


def recommended(speeds: dict[int, float]) -> int:
    """The smallest batch that is nearly as fast as the fastest."""
    return min(size for size, speed in speeds.items() if speed >= LARGE_ENOUGH * max(speeds.values()))


def _hardware(trainer: Trainer) -> str:
    device, processes = trainer.accelerator.device, trainer.accelerator.num_processes
    if device.type == "cuda":
        return f"{processes} x {torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{processes} process(es) on {num_cores()} cores, torch {torch.__version__}"


def print_figures(console: "Console", figures: TrainingFigures, trainer: Trainer) -> None:
    """Print the table and a summary."""
    from rich import box
    from rich.table import Table

    config = trainer.config
    title = (
        f"{config.model.backbone} at {config.model.height_px}x{config.model.width_px}, batches of "
        f"{config.train.batch_size}, {figures.precision}\n{figures.hardware}"
    )
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("", "images/s", "ratio to the network alone"):
        table.add_column(heading, justify="left" if not heading else "right")
    for line in figures.lines:
        table.add_row(line.title, f"{line.images_per_second:,.0f}", f"{line.ratio:.3f}")
    console.print(table)
    for sentence in sentences(figures, on_gpu=trainer.accelerator.device.type == "cuda"):
        console.print(sentence, soft_wrap=True)


def sentences(figures: TrainingFigures, *, on_gpu: bool) -> Sequence[str]:
    """A summary of the figures."""
    loop = next(line for line in figures.lines if line.title == LOOP)
    limit = "the network limits" if loop.ratio >= LIMITED_BY_INPUT else "the network waits for its input"
    summary = [
        f"{limit}: the loop runs at {loop.ratio:.3f} of the network alone.",
        f"peak memory {'on the GPU' if on_gpu else 'of the process'}: {figures.peak_mib:,.0f} MiB.",
        f"per image {figures.gflops_per_image:.2f} GFLOP and, unfused, {figures.mbytes_per_image:.0f} MB: "
        f"{100 * figures.share_of_product_rate:.0f} % of the rate of a large matrix product, "
        f"{100 * figures.share_of_copy_rate:.0f} % of the rate of a large copy.",
    ]
    if figures.speed_by_batch is not None:
        speeds = ", ".join(f"{size}: {speed:,.0f}" for size, speed in figures.speed_by_batch.items())
        summary.append(f"images/s by batch size: {speeds}. Recommended for speed: {figures.recommended_batch}.")
    return summary
