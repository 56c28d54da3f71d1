"""One step and one epoch of training.

Legend: B images of a micro-batch, A attribute groups.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from reid_accel.config.schema import Config
from reid_accel.data.dataset import Ints
from reid_accel.data.sampler import (
    most_random_identity_batches,
    random_identity_batches,
    rank_share,
    shuffled_batches,
    times_drawn_before,
    uniform_identity_batches,
)
from reid_accel.data.splits import TrainingSet
from reid_accel.distributed.collectives import Group
from reid_accel.distributed.fsdp import full_tensor
from reid_accel.distributed.watchdog import Watchdog
from reid_accel.errors import InputError
from reid_accel.models.losses import LossTerms, Pairs, loss_terms, total
from reid_accel.models.metric_losses import descended_centers, moved_centers
from reid_accel.models.outputs import Outputs
from reid_accel.models.reid import ReIDModel, on_device
from reid_accel.training.additions import Loss
from reid_accel.training.checkpoint import TrainingState
from reid_accel.training.dataloader import Batch, TrainingInput
from reid_accel.training.ema import EMA
from reid_accel.training.metrics import EpochSums
from reid_accel.training.nonfinite import NonFiniteSkipper
from reid_accel.training.optim import set_rate
from reid_accel.training.schedule import lr_multiplier

SAMPLERS = {"uniform": uniform_identity_batches, "random-identity": random_identity_batches}


class UpdateCount:
    """Counts the updates that an optimizer itself makes, without waiting for the device."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.number = 0
        optimizer.register_step_post_hook(self._count)

    def _count(self, *_: object) -> None:
        self.number += 1

    def require_one(self, before: int, step: int, *, at_the_end: bool) -> None:
        """Raise InputError unless step `step` (from 0) made one update, and made it after its last micro-batch."""
        if self.number != before + 1 or not at_the_end:
            raise InputError(
                f"step {step + 1} made {self.number - before} updates of the weights instead of one after its last "
                "micro-batch: something outside the run's settings has changed Accelerate's gradient accumulation; "
                "start without it, and set --train.accumulation-steps"
            )


@dataclass(frozen=True)
class Trainer:
    """The objects that a training step uses."""

    accelerator: Accelerator
    model: nn.Module
    """The network as Accelerate wraps it; `unwrapped` is the network itself."""
    unwrapped: ReIDModel
    optimizer: AcceleratedOptimizer
    data: TrainingSet
    input: TrainingInput
    config: Config
    ema: EMA | None = None
    skipper: NonFiniteSkipper | None = None
    class_weights: tuple[Tensor, ...] | None = None
    own_losses: Mapping[str, Loss] = field(default_factory=dict)
    watchdog: Watchdog = field(default_factory=Watchdog)
    updates: UpdateCount = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "updates", UpdateCount(self.optimizer.optimizer))

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch by the schedule; `epoch_batches` may have a few less with `random-identity`."""
        train = self.config.train
        if train.images_per_identity and train.identity_sampler == "random-identity":
            return most_random_identity_batches(self.data.identity_N, train.batch_size, train.images_per_identity)
        return len(self.data.images) // train.batch_size

    def schedule_step(self, epoch: int, position: int) -> int:
        """The step that rates and seeds depend on; the counted steps differ if a resumed run changed the batch size."""
        return epoch * self.steps_per_epoch + position

    def learning_rate(self, step: int) -> float:
        """The heads' learning rate at a step of the schedule."""
        return self.config.optim.learning_rate * self._lr_multiplier(step)

    def _lr_multiplier(self, step: int) -> float:
        return lr_multiplier(step, self.steps_per_epoch, self.config.train.epochs, self.config.optim)

    @property
    def state(self) -> TrainingState:
        """The state that a checkpoint saves."""
        ema = self.ema.model if self.ema is not None else None
        return TrainingState(self.unwrapped, self.optimizer.optimizer, self.accelerator.scaler, ema)

    def evaluated_model(self) -> ReIDModel:
        """The model to evaluate and save: the EMA if enabled. Every process must call it.

        Batch norm statistics are each process's own, from its share of the images; process 0's are saved.
        """
        model = self.ema.model if self.ema is not None else self.unwrapped
        Group.of().broadcast_buffers(model)
        return unsharded(model)

    def epoch_batches(self, epoch: int) -> Ints:
        """The S x B rows of an epoch's optimizer steps, the same on every process."""
        train, identity_N = self.config.train, self.data.identity_N
        if train.images_per_identity:
            sampler = SAMPLERS[train.identity_sampler]
            return sampler(identity_N, train.batch_size, train.images_per_identity, seed=train.seed, epoch=epoch)
        return shuffled_batches(len(identity_N), train.batch_size, seed=train.seed, epoch=epoch)

    def open_batches(self, rows_SB: Ints, epoch: int, start: int = 0) -> Generator[Batch]:
        """This process's micro-batches, in order, from step `start` on. Close it to stop early.

        rows_SB: the epoch's optimizer steps from its first one on, since augmentation depends on what came before.
        """
        repeat_SB = times_drawn_before(rows_SB)
        return self.input.batches(self.shares(rows_SB[start:]), epoch, self.shares(repeat_SB[start:]))

    def shares(self, rows_SB: Ints) -> list[Ints]:
        """This process's rows of each micro-batch of the given optimizer steps."""
        return [
            share_B
            for rows_B in rows_SB
            for share_B in rank_share(
                rows_B,
                rank=self.accelerator.process_index,
                world_size=self.accelerator.num_processes,
                micro_batches=self.config.train.accumulation_steps,
            )
        ]

    def step(self, batches: Iterator[Batch], step: int, sums: EpochSums) -> EpochSums:
        """One optimizer step on the next micro-batches; returns the updated sums, unchanged if the step was skipped."""
        accelerator, config = self.accelerator, self.config
        frozen = step < config.optim.frozen_epochs * self.steps_per_epoch
        self.unwrapped.freeze_backbone(frozen)
        set_rate(self.optimizer, self._lr_multiplier(step), backbone_frozen=frozen)
        # torch's own random numbers (dropout, stochastic depth) are a function of seed, step and process
        torch.manual_seed(_torch_seed(config.train.seed, step, accelerator.process_index))
        given, applied, updates_before = sums, True, self.updates.number
        if self.skipper is not None:
            self.skipper.before_step()
        for part, batch in enumerate(islice(batches, config.train.accumulation_steps)):
            self.watchdog.mark(f"step {step + 1}, part {part + 1}")
            with accelerator.accumulate(self.model):
                outputs = self.model(batch.images_BCHW, batch.camera_B)
                pairs = self.pairs(outputs, batch)
                terms = self.loss_terms(outputs, batch, pairs)
                loss = total(terms)
                accelerator.backward(loss)
                self.move_centers(pairs)
                if accelerator.sync_gradients:
                    applied = self._prepare_gradient()
                if applied:
                    self.optimizer.step()
                self.optimizer.zero_grad()
            sums = sums.add(terms, loss, outputs, batch)
        if applied and not self.optimizer.step_was_skipped:
            self.updates.require_one(updates_before, step, at_the_end=accelerator.sync_gradients)
        if applied and self.ema is not None:
            self.ema.update(self.unwrapped, step)
        return sums if applied else given

    def _prepare_gradient(self) -> bool:
        """Clip the accumulated gradient; returns False if the step must be skipped."""
        if self.config.optim.clip_norm > 0:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.optim.clip_norm)
        if self.skipper is None or self.skipper.gradient_is_finite():
            return True
        self.skipper.undo_forward()
        return False

    def pairs(self, outputs: Outputs, batch: Batch) -> Pairs:
        """The images that metric losses compare: of all processes, or of this one. Every process must call it."""
        loss = self.config.loss
        if not (loss.uses_pairs and loss.pairs_across_processes):
            return Pairs(outputs.metric_feature_BE, batch.identity_B)
        group = Group.of()
        return Pairs(
            group.all_gather_with_grad(outputs.metric_feature_BE), group.all_gather(batch.identity_B).flatten()
        )

    def loss_terms(self, outputs: Outputs, batch: Batch, pairs: Pairs) -> LossTerms:
        """The loss of a micro-batch, term by term."""
        terms = loss_terms(
            outputs,
            batch,
            self.config.loss,
            margin=self.unwrapped.identity_classifier.with_margin,
            pairs=pairs,
            center_IE=self.unwrapped.center_IE if self.config.loss.center else None,
            class_weights=self.class_weights,
        )
        return terms | {name: term(outputs, batch) for name, term in self.own_losses.items()}

    @torch.no_grad()
    def move_centers(self, pairs: Pairs) -> None:
        """Update the centers of the center loss, if enabled, from the batch."""
        loss = self.config.loss
        if not loss.center:
            return
        center_IE = self.unwrapped.center_IE
        if loss.center_update == "sgd":
            batch_size = self.config.train.batch_size
            center_IE.copy_(descended_centers(center_IE, *pairs, loss.center_rate, batch_size))
        else:
            center_IE.copy_(moved_centers(center_IE, *pairs, loss.center_rate))


def _torch_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def unsharded(model: ReIDModel) -> ReIDModel:
    """The network with full weights on each process's device; every process must call it.

    A model that isn't sharded is returned unchanged.
    """
    if not any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return model
    weights = {name: full_tensor(value) for name, value in model.state_dict().items()}
    plain = on_device(ReIDModel(model.architecture), next(model.parameters()).device)
    plain.load_state_dict(weights)
    return plain
