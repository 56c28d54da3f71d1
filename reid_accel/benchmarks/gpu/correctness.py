"""Correctness: training steps on a device agree with the CPU and are reproducible."""

import json
from collections.abc import Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn

from reid_accel.augment.rng import uniforms
from reid_accel.benchmarks.counting import host_reads
from reid_accel.benchmarks.gpu.made_run import (
    ALL_AUGMENTATIONS,
    first_batch,
    loss_of,
    made_config,
    made_images,
    made_trainer,
    require_compiled,
    run_steps,
    state_of,
    train_steps,
)
from reid_accel.benchmarks.gpu.rows import Row, checked, within
from reid_accel.benchmarks.gpu.setup import Setup, require_bf16
from reid_accel.config.schema import Config
from reid_accel.data.splits import TrainingSet
from reid_accel.training.checkpoint import RunFingerprint, save_checkpoint
from reid_accel.training.dataloader import Batch, open_input
from reid_accel.training.progress import Progress
from reid_accel.training.resume import load_checkpoint
from reid_accel.training.trainer import Trainer

STEPS = 7  # with 5 steps per epoch, the stop after 3 is within the first epoch and the end within the second
STOP = 3
KERNELS_DIFFER = 2e-2
"""A limit for gradients through batch statistics: rounding decides which inputs of a ReLU near 0 pass, so even two
float32 convolutions on one CPU differ by up to 4e-3 (ResNet-50, 8 to 32 images)."""


def small_run(setup: Setup, precision: str = "no", **run: object) -> tuple[Config, TrainingSet]:
    """A run of five steps per epoch, with augmentation."""
    batch_size = 32 if setup.large else 8
    config = made_config(setup, batch_size, precision, ALL_AUGMENTATIONS, **run)
    return config, made_images(config, 5 * batch_size)


def step_against_cpu(setup: Setup) -> Iterator[Row]:
    """Loss and gradients of one step in float32, TF32 off, against the CPU's."""
    config, images = small_run(setup, tf32=False)
    with made_trainer(setup, config, images) as trainer:
        batch = first_batch(trainer)
        reference = deepcopy(trainer.unwrapped).cpu()
        cpu_batch = Batch(*(column.cpu() for column in batch))
        loss, gradient = _loss_and_gradient(trainer, batch, trainer.unwrapped)
        cpu_loss, cpu_gradient = _loss_and_gradient(trainer, cpu_batch, reference)
        _, fixed = _loss_and_gradient(trainer, batch, trainer.unwrapped.eval())
        _, cpu_fixed = _loss_and_gradient(trainer, cpu_batch, reference.eval())
    yield within("loss of a step in float32 against the CPU", abs(loss / cpu_loss - 1), 1e-5)
    yield within("its gradients, fixed batch statistics", _distance(fixed, cpu_fixed), 1e-3)
    yield within("its gradients, batch statistics", _distance(gradient, cpu_gradient), KERNELS_DIFFER)


def _loss_and_gradient(trainer: Trainer, batch: Batch, model: nn.Module) -> tuple[float, Tensor]:
    model.zero_grad()
    loss = loss_of(trainer, batch, model)
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return loss.item(), torch.cat([gradient.flatten().double().cpu() for gradient in gradients])


def _distance(values: Tensor, reference: Tensor) -> float:
    return float((values.double() - reference.double()).norm() / reference.double().norm())


def bf16_against_float32(setup: Setup) -> Iterator[Row]:
    """The loss of the same batch in bf16 and in float32."""
    require_bf16(setup.device)
    losses = []
    for precision in ("no", "bf16"):
        config, images = small_run(setup, precision, tf32=False)
        with made_trainer(setup, config, images) as trainer, torch.no_grad():
            losses.append(loss_of(trainer, first_batch(trainer)).item())
    yield within("loss in bf16 against float32", abs(losses[1] / losses[0] - 1), 0.02)


def same_seed_twice(setup: Setup) -> Iterator[Row]:
    """Two deterministic runs with the same seed are bit-identical; another seed gives a different result."""
    config, images = small_run(setup, deterministic=True)
    config = replace(config, train=replace(config.train, ema_decay=0.9))
    states = [_trained(setup, config, images) for _ in range(2)]
    other = _trained(setup, replace(config, train=replace(config.train, seed=1)), images)
    differing = _differing(*states)
    yield checked(
        "the same seed twice, deterministic",
        not differing and bool(_differing(states[0], other)),
        _bits(states[0], differing),
    )


def stop_and_resume(setup: Setup) -> Iterator[Row]:
    """A run that is stopped within an epoch and resumed is bit-identical to an uninterrupted one."""
    config, images = small_run(setup, deterministic=True)
    config = replace(config, train=replace(config.train, ema_decay=0.9))
    undisturbed = _trained(setup, config, images)
    fingerprint = RunFingerprint(json.loads(json.dumps(asdict(config))), "made")
    with made_trainer(setup, config, images, dropout=0.2) as trainer:
        train_steps(trainer, 0, STOP)
        progress = Progress(step=STOP, position=STOP)
        path = save_checkpoint(setup.folder / "resume", trainer.state, progress, fingerprint, keep=1)
    with made_trainer(setup, config, images, dropout=0.2) as trainer:
        progress = load_checkpoint(path, trainer.state, fingerprint)
        train_steps(trainer, progress.step, STEPS)
        resumed = state_of(trainer)
    differing = _differing(undisturbed, resumed)
    yield checked("stopped within an epoch and resumed", not differing, _bits(resumed, differing))


def _trained(setup: Setup, config: Config, images: TrainingSet) -> dict[str, Tensor]:
    with made_trainer(setup, config, images, dropout=0.2) as trainer:
        train_steps(trainer, 0, STEPS)
        return state_of(trainer)


def _differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def _bits(state: dict[str, Tensor], differing: list[str]) -> str:
    if not differing:
        return f"all {len(state)} tensors bit-identical"
    return f"{len(differing)} of {len(state)} tensors differ, first {differing[0]}"


def augmentation_against_cpu(setup: Setup) -> Iterator[Row]:
    """Random draws and augmented images on the device equal the CPU's."""
    config, images = small_run(setup)
    rows = torch.arange(len(images.images))
    draws = [uniforms(3, 5, rows.to(device)).cpu() for device in (torch.device("cpu"), setup.device)]
    yield checked("random draws on the device", torch.equal(*draws), "bit-identical to the CPU's")
    with made_trainer(setup, config, images) as trainer:
        on_cpu = open_input(images, trainer.unwrapped.architecture, config, torch.device("cpu"))
        inputs = (trainer.input, on_cpu)
        batches = [next(source.batches([rows.numpy()], epoch=0)).images_BCHW.cpu() for source in inputs]
    mean = (batches[0] - batches[1]).abs().mean().item()
    yield within("augmented images against the CPU", mean, 1e-4, "mean difference")


def compiled_against_eager(setup: Setup) -> Iterator[Row]:
    """The loss of the same batch with and without torch.compile."""
    losses = []
    for compiled in (False, True):
        config, images = small_run(setup, "no", tf32=False)
        with made_trainer(setup, config, images) as trainer:
            if compiled and setup.large:
                require_compiled(trainer)
            elif compiled:
                trainer.model.compile(backend="aot_eager")  # traces the graph; compiling C++ would take a minute
            losses.append(loss_of(trainer, first_batch(trainer)).item())
    torch.compiler.reset()
    yield within("loss with torch.compile against without", abs(losses[1] / losses[0] - 1), 1e-3)


def ema_by_hand(setup: Setup) -> Iterator[Row]:
    """The EMA of the weights after several steps against its definition, computed on the CPU in float64."""
    config, images = small_run(setup)
    config = replace(config, train=replace(config.train, ema_decay=0.8))
    with made_trainer(setup, config, images) as trainer:
        assert trainer.ema is not None
        expected = {name: value.cpu().double() for name, value in trainer.ema.model.named_parameters()}
        for step in range(STOP):
            train_steps(trainer, step, step + 1)
            decay = min(0.8, (1 + step) / (10 + step))
            for name, value in trainer.unwrapped.named_parameters():
                expected[name] = decay * expected[name] + (1 - decay) * value.detach().cpu().double()
        pairs = [(value.cpu(), expected[name]) for name, value in trainer.ema.model.named_parameters()]
    yield within("EMA against its definition in float64", max(_distance(*pair) for pair in pairs), 1e-6)


def no_host_reads(setup: Setup) -> Iterator[Row]:
    """A step with all losses and augmentations never synchronizes host and device."""
    config, images = small_run(setup)
    config = replace(config, loss=replace(config.loss, circle=0.5, center=0.1))
    with (
        made_trainer(setup, config, images) as trainer,
        closing(trainer.open_batches(trainer.epoch_batches(0), 0)) as batches,
    ):
        sums = run_steps(trainer, batches, 2)  # one-time initialization may synchronize
        with host_reads(setup.device) as reads:
            run_steps(trainer, batches, 2, first=2, sums=sums)
    counts = ", ".join(f"{count} x {name}" for name, count in sorted(reads.items()))
    yield checked("no host-device synchronization in a step", not reads, counts or "none in 2 steps")
