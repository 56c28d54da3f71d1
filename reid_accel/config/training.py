"""Settings of the optimization and of the run."""

from dataclasses import dataclass
from typing import Literal

from reid_accel.config.checks import LogLevel, check, check_choices, check_each, check_folder_name, expand_homes
from reid_accel.errors import InputError


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimizer and learning rate schedule."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimizer."""
    learning_rate: float = 3.5e-4
    """Peak learning rate of the heads; that of the backbone is multiplied by `backbone_rate`."""
    backbone_rate: float = 1.0
    """Learning rate multiplier of the backbone (0.1 for careful fine-tuning)."""
    layer_decay: float = 1.0
    """Layer-wise learning rate decay from the heads to the backbone's last block and on from block to block (0.65 to
    0.8 for pretrained transformers); 1: off."""
    frozen_epochs: float = 0.0
    """Epochs at the start during which the backbone is frozen (its batch norm in evaluation mode, too) and only the
    heads are trained."""
    weight_decay: float = 5e-4
    """Weight decay (decoupled for adamw); not applied to biases, norms, and what the backbone exempts (class token and
    position embeddings of transformers), unless `decay_everything`."""
    decay_everything: bool = False
    """Apply the weight decay to all parameters, as in most public re-ID codes (Luo et al. 2019, TransReID)."""
    bias_rate: float = 1.0
    """Learning rate multiplier of biases (2 in TransReID)."""
    momentum: float = 0.9
    """Momentum of sgd."""
    nesterov: bool = True
    """Nesterov's momentum for sgd."""
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    """Learning rate schedule after the warm-up."""
    schedule_unit: Literal["step", "epoch"] = "step"
    """The learning rate changes with every step; or it is constant within an epoch, and epoch N (from 1) has the
    schedule's value after N epochs, as in public re-ID codes: with `step_epochs` 40, epoch 40 is the first with the
    lower rate, not epoch 41."""
    warmup_epochs: float = 1.0
    """Epochs of linear warm-up from 1 % of the learning rate."""
    cosine_start: Literal["warmup", "training"] = "warmup"
    """Whether the cosine begins after the warm-up, or as if there were none (TransReID)."""
    lowest_rate: float = 0.0
    """Fraction of the learning rate at which the cosine ends (0.002 in TransReID)."""
    step_epochs: tuple[float, ...] = (40, 70)
    """Epochs at which the schedule `steps` multiplies the learning rate by `step_factor`; see `schedule_unit`."""
    step_factor: float = 0.1
    """Factor of the schedule `steps`."""
    clip_norm: float = 0.0
    """Gradient clipping by total norm; 0: off."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "step_epochs", tuple(self.step_epochs))
        check_choices(self, "optim")
        check(self.learning_rate > 0, "optim.learning-rate", "above 0", self.learning_rate)
        check(0 <= self.lowest_rate <= 1, "optim.lowest-rate", "between 0 and 1", self.lowest_rate)
        check_each(
            self,
            "optim",
            ("backbone_rate", "bias_rate", "frozen_epochs", "weight_decay", "warmup_epochs"),
            0,
            "0 or more",
        )
        check(0 < self.layer_decay <= 1, "optim.layer-decay", "in (0, 1]", self.layer_decay)
        check(self.clip_norm >= 0, "optim.clip-norm", "0 (off) or more", self.clip_norm)
        check(0 <= self.momentum < 1, "optim.momentum", "in [0, 1)", self.momentum)
        check(0 < self.step_factor <= 1, "optim.step-factor", "in (0, 1]", self.step_factor)
        check(all(epoch > 0 for epoch in self.step_epochs), "optim.step-epochs", "above 0", self.step_epochs)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Epochs, batches, seed, EMA."""

    epochs: int = 60
    """Number of epochs."""
    batch_size: int = 64
    """Global batch size: images per optimizer step, over all processes and accumulation steps."""
    accumulation_steps: int = 1
    """Gradient accumulation steps."""
    images_per_identity: int = 0
    """Identity sampling: K images of each of batch-size / K identities per batch (Hermans et al. 2017), as metric
    losses need; 0: shuffled images. An epoch is one pass over the shuffled images; with identity sampling, see
    `identity_sampler`."""
    identity_sampler: Literal["uniform", "random-identity"] = "uniform"
    """What an epoch of identity sampling is. `uniform`: every identity equally often, as many batches as the images
    fill; images of identities with few are drawn several times. `random-identity`: RandomIdentitySampler of Bag of
    Tricks, TransReID and torchreid: identities in proportion to their images, each image at most once (those of an
    identity with fewer than K are repeated), until a batch lacks identities; on Market-1501 183 or 184 steps instead
    of 202."""
    seed: int = 0
    """Random seed."""
    ema_decay: float = 0.0
    """Decay of the exponential moving average (EMA) of the weights, which is then evaluated and saved (0.999 for long
    runs); 0: off."""
    batch_norm: Literal["local", "synchronized", "frozen"] = "local"
    """Batch norm statistics: per process (`local`), over all processes (`synchronized`; needs GPUs, slower), or those
    of the pretrained backbone (`frozen`)."""
    skip_nonfinite: int = 0
    """Number of steps with non-finite gradients to skip before the run stops; 0 stops at the first. Not used with fp16,
    whose gradient scaler skips them itself."""
    validate_every_epochs: int = 1
    """Epochs between validations; the last epoch is always validated."""

    def __post_init__(self) -> None:
        check_choices(self, "train")
        check_each(self, "train", ("epochs", "accumulation_steps", "validate_every_epochs"), 1, "positive")
        check(self.batch_size > 1, "train.batch-size", "2 or more", self.batch_size)
        check_each(self, "train", ("seed", "skip_nonfinite"), 0, "0 or more")
        check(0 <= self.ema_decay < 1, "train.ema-decay", "in [0, 1)", self.ema_decay)
        k = self.images_per_identity
        check(
            k == 0 or (k >= 2 and self.batch_size % k == 0 and self.batch_size > k),
            "train.images-per-identity",
            f"0 (shuffled images), or 2 or more and a divisor of train.batch-size ({self.batch_size}) below it",
            k,
        )

    def micro_batch_size(self, world_size: int) -> int:
        """Images per forward pass of one process. Raises InputError when the batch can't be divided evenly."""
        parts = world_size * self.accumulation_steps
        if self.batch_size % parts or self.batch_size // parts < 2:
            raise InputError(
                f"train.batch-size {self.batch_size} must be a multiple of {parts} ({world_size} processes x "
                f"{self.accumulation_steps} accumulation steps), at least {2 * parts}"
            )
        return self.batch_size // parts


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Run folder, checkpoints, hardware, logging."""

    name: str = "run"
    """Name of the run: used in its report, and for its folder if `dir` isn't set."""
    dir: str | None = None
    """Run folder. Default: runs/NAME, or the first free one of runs/NAME-2, runs/NAME-3, ..."""
    resume: str | None = None
    """Checkpoint path, or `auto`: the newest valid one, else start fresh. Processes restarted by a launcher use
    `auto`."""
    resume_anyway: bool = False
    """Resume although settings or data have changed: the differences are printed and the current epoch restarts."""
    overwrite: bool = False
    """Delete the results of an earlier run in `dir` and start fresh."""
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = "auto"
    """Mixed precision; `auto`: as set for `accelerate launch`, else bf16 if the hardware supports it natively, else
    no."""
    compile: bool = False
    """Compile the network with torch.compile: slower start, faster steps."""
    shard_weights: bool = False
    """Shard weights, gradients and optimizer state over the processes (FSDP), for backbones that don't fit on one GPU.
    Checkpoints are complete: a run can be resumed without sharding."""
    tf32: bool = True
    """Allow TF32 matrix products on NVIDIA GPUs during training (never during evaluation)."""
    cpu_threads: int = 0
    """Threads per process when computing on the CPU; 0: the cores divided by the number of processes."""
    deterministic: bool = False
    """Bitwise reproducible results on the same hardware: deterministic kernels only, slower on GPUs."""
    checkpoint_steps: int = 0
    """Steps between checkpoints within an epoch; 0: off. A checkpoint is always written after an epoch."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints within an epoch; 0: off."""
    keep_checkpoints: int = 2
    """Number of most recent checkpoints to keep, in addition to the best epoch's."""
    stall_minutes: float = 30.0
    """With several processes: abort the run after this many minutes without progress; 0: never."""
    log_level: LogLevel = "info"
    """Least severe messages to print; `warning`: only warnings, errors and the final table."""
    log_every_steps: int = 10
    """Steps between lines in metrics.jsonl."""
    trackers: tuple[str, ...] = ()
    """Trackers of Accelerate to log to, in addition to metrics.jsonl: tensorboard, wandb, ..."""
    push_to: str | None = None
    """Hub repository (user/name) to push the model to after training."""
    push_visibility: Literal["auto", "private", "public"] = "auto"
    """Visibility of a new repository. `auto`: private, unless the model was trained on drawn pedestrians only."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "trackers", tuple(self.trackers))
        check_folder_name("run.name", self.name)
        check(self.dir is None or bool(self.dir.strip()), "run.dir", "a folder's path", self.dir)
        expand_homes(self, ("dir", "resume"))
        check_each(self, "run", ("cpu_threads",), 0, "0 or more")
        check_each(self, "run", ("checkpoint_steps", "checkpoint_minutes", "stall_minutes"), 0, "0 (off) or more")
        check_each(self, "run", ("keep_checkpoints", "log_every_steps"), 1, "positive")
