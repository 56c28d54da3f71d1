"""Training: images per second, memory and arithmetic utilization at several batch sizes, and a profile."""

import functools
import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from reid_accel.benchmarks.counting import count_work, peak_mib, product_rate, synchronize
from reid_accel.benchmarks.gpu.made_run import (
    loss_of,
    made_config,
    made_images,
    made_trainer,
    require_compiled,
    run_steps,
    train_steps,
)
from reid_accel.benchmarks.gpu.rows import TRAINING, Row, Status
from reid_accel.benchmarks.gpu.setup import Setup, require_bf16, require_memory
from reid_accel.benchmarks.training import random_batch, seconds_of_step, take_turns
from reid_accel.training.dataloader import Batch
from reid_accel.training.trainer import Trainer

AIM_IMAGES_PER_SECOND = 3470
"""Ten times the speed that a vendor's documentation implies for ResNet-50 on an A100 with the usual input pipeline."""
AIM_LOOP_SHARE = 0.97
BATCHES, SMALL_BATCHES = (64, 128, 256, 512), (8, 16)
GIB_PER_IMAGE = 0.06  # bf16 activations at 256x128 and last stride 1, a generous estimate
TURN_SECONDS, SMALL_TURN_SECONDS = 0.7, 0.15
TURNS = 3
KERNELS_SHOWN = 10
HOST_STEPS = 5

Span = tuple[float, float]


def speed_at(batch_size: int, *, compiled: bool = False) -> Callable[[Setup], Iterator[Row]]:
    """A part that measures training at one batch size, eager or compiled."""

    def measure(setup: Setup) -> Iterator[Row]:
        """Images per second of the full loop and of the network alone on one resident batch."""
        require_bf16(setup.device)
        require_memory(setup.device, 4 + GIB_PER_IMAGE * batch_size)
        config = made_config(setup, batch_size, "bf16")
        with made_trainer(setup, config, made_images(config, 8 * batch_size)) as trainer:
            if compiled:
                require_compiled(trainer)
            yield _speed_row(trainer, f"batch {batch_size}{', compiled' if compiled else ''}")
        torch.compiler.reset()

    return measure


def _speed_row(trainer: Trainer, title: str) -> Row:
    device, batch_size = trainer.accelerator.device, trainer.config.train.batch_size
    resident = random_batch(trainer, batch_size)
    turn_seconds = TURN_SECONDS if device.type == "cuda" else SMALL_TURN_SECONDS
    steps = max(2, int(turn_seconds / seconds_of_step(trainer, resident)))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    ways: dict[str, Callable[[], None]] = {
        "network": lambda: _on_resident_batch(trainer, resident, steps),
        "loop": lambda: train_steps(trainer, 0, steps),
    }
    seconds = take_turns(trainer, ways, turns=TURNS)
    share = statistics.median(alone / loop for alone, loop in zip(*seconds.values(), strict=True))
    speed, alone = (steps * batch_size / statistics.median(seconds[way]) for way in ("loop", "network"))
    peak = peak_mib(device)
    rate = alone * _operations_per_image(trainer, resident)
    product = _bf16_rate(device)
    met = device.type != "cuda" or (speed >= AIM_IMAGES_PER_SECOND and share >= AIM_LOOP_SHARE)
    result = (
        f"{speed:,.0f} images/s, {share:.3f} of the network alone ({alone:,.0f}); peak {peak:,.0f} MiB; "
        f"{rate / 1e12:.1f} TFLOP/s, {100 * rate / product:.0f} % of a large bf16 product"
    )
    numbers = {"images_per_second": speed, "share_of_network": share, "network_images_per_second": alone}
    numbers |= {"peak_mib": peak, "tflops": rate / 1e12, "share_of_product": rate / product}
    status: Status = "measured" if device.type != "cuda" else "goal met" if met else "goal missed"
    return Row(TRAINING, title, status, result, numbers)


def _on_resident_batch(trainer: Trainer, batch: Batch, steps: int) -> None:
    run_steps(trainer, repeat(batch), steps)


@functools.cache
def _bf16_rate(device: torch.device) -> float:
    return product_rate(device, torch.bfloat16)


def _operations_per_image(trainer: Trainer, batch: Batch) -> float:
    few = Batch(*(column[:4] for column in batch))

    def forward_backward() -> None:
        loss_of(trainer, few, trainer.unwrapped.forward).backward()  # not its compiled form
        trainer.optimizer.zero_grad()

    return count_work(forward_backward)[0] / 4


def profiled_loop(batch_size: int) -> Callable[[Setup], Iterator[Row]]:
    """A part that lists the kernels training spends its time in, and the share of time that the device is idle."""
    return lambda setup: _profiled_loop(setup, batch_size)


def _profiled_loop(setup: Setup, batch_size: int) -> Iterator[Row]:
    require_bf16(setup.device)
    require_memory(setup.device, 4 + GIB_PER_IMAGE * batch_size)
    config = made_config(setup, batch_size, "bf16")
    activity = ProfilerActivity.CUDA if setup.large else ProfilerActivity.CPU
    with made_trainer(setup, config, made_images(config, 8 * batch_size)) as trainer:
        train_steps(trainer, 0, 4)
        synchronize(setup.device)
        with profile(activities=[activity], acc_events=True) as profiled:
            train_steps(trainer, 4, 9)
            synchronize(setup.device)
        with profile(activities=[ProfilerActivity.CPU]) as on_host:
            train_steps(trainer, 9, 9 + HOST_STEPS)
            synchronize(setup.device)
    spans = _kernel_spans(profiled.events(), on_gpu=setup.large)
    seconds_of = {name: sum(stop - start for start, stop in each) for name, each in spans.items()}
    total = sum(seconds_of.values())
    for name, seconds in sorted(seconds_of.items(), key=lambda item: -item[1])[:KERNELS_SHOWN]:
        yield Row(
            TRAINING,
            f"profile, batch {batch_size}: {name[:60]}",
            "measured",
            f"{100 * seconds / total:.1f} % of the kernels' time",
        )
    idle = _idle_share([span for each in spans.values() for span in each])
    title = f"profile, batch {batch_size}: device idle"
    yield Row(TRAINING, title, "measured", f"{100 * idle:.1f} % of the time", {"idle": idle})
    if setup.large:
        yield from _host_rows(on_host, batch_size)


def _host_rows(profiled: profile, batch_size: int) -> Iterator[Row]:
    """The operations that the host spends its time in: at small batches a GPU waits for them."""
    operations = sorted(profiled.key_averages(), key=lambda operation: -operation.self_cpu_time_total)
    for operation in operations[:KERNELS_SHOWN]:
        milliseconds = operation.self_cpu_time_total / 1e3 / HOST_STEPS
        result = f"{milliseconds:.2f} ms of a step in {operation.count / HOST_STEPS:.0f} calls"
        yield Row(TRAINING, f"host, batch {batch_size}: {operation.key[:60]}", "measured", result)


def _kernel_spans(events: Any, *, on_gpu: bool) -> dict[str, list[Span]]:
    """When each kernel ran, by name; on the CPU, when each top-level operation ran."""
    spans: dict[str, list[Span]] = {}
    for event in events:
        is_kernel = event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
        if is_kernel if on_gpu else event.cpu_parent is None:
            spans.setdefault(event.name, []).append((event.time_range.start, event.time_range.end))
    return spans


def _idle_share(spans: Sequence[Span]) -> float:
    """The share of time, from the first span to the last, that no span covers."""
    busy, until = 0.0, float("-inf")
    for start, stop in sorted(spans):
        busy += max(0.0, stop - max(start, until))
        until = max(until, stop)
    first = min(start for start, _ in spans)
    return 1 - busy / (until - first) if until > first else 0.0
