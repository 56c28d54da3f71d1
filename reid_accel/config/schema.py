"""Every setting of a run: frozen dataclasses, checked when built, whose field texts are the help.

`parse` fills them from a recipe and the command line.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

from reid_accel.errors import InputError

DatasetName = Literal["synthetic", "synthetic-course", "market1501", "market-layout", "msmt17", "course"]


def check(condition: bool, name: str, requirement: str, value: object) -> None:
    """Raise InputError `name must be requirement, got value` unless the condition holds."""
    if not condition:
        raise InputError(f"{name} must be {requirement}, got {value!r}")


def name_and_folder(entry: str, setting: str) -> tuple[DatasetName, str]:
    """The two parts of a further set, NAME:FOLDER. Raises InputError for anything else."""
    name, colon, folder = entry.partition(":")
    known = get_args(DatasetName)
    check(bool(colon) and name in known, setting, f"NAME:FOLDER with NAME one of {', '.join(known)}", entry)
    return cast(DatasetName, name), folder


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and how they reach the network."""

    name: DatasetName = "synthetic"
    """The data set: `market1501`, `market-layout` (CUHK03-NP, DukeMTMC-reID, your own crops in that layout),
    `msmt17`, `course`, or pedestrians that this package draws itself: `synthetic`, `synthetic-course`."""
    root: str | None = None
    """The folder of the data set (not needed for the synthetic ones)."""
    also: tuple[str, ...] = ()
    """Further sets to train on, NAME:FOLDER each (`msmt17:path/to/MSMT17_V1`): their people are added to the
    training ones. Validation and test are those of `name`."""
    on_bad_image: Literal["error", "skip"] = "error"
    """Stop at an image that can't be read, or leave it out and list it in report.json."""
    validation_share: float = 0.3
    """Share of the training images held out for validation, by person. The best model is chosen on them;
    with 0 all images train and the last model is kept."""
    cache_dir: str = "~/.cache/reid_accel"
    """Where decoded images, tables and drawn pedestrians are kept."""
    device_share: float = 0.5
    """Decoded training images move to the GPU whole when they fit into this share of its free memory; else they are
    read ahead from the cache. 0: always read ahead."""
    synthetic_identities: int = 200
    """Number of drawn training persons. Another number draws another set, in which test persons of this one may
    train: score a model only on the set that it was trained on, or on one of another seed."""
    synthetic_seed: int = 0
    """Seed of the drawn pedestrians."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "also", tuple(self.also))
        for entry in self.also:
            name_and_folder(entry, "data.also")
        if self.root is not None and self.name.startswith("synthetic"):
            raise InputError(
                f"data.root {self.root} has no part in the set {self.name}, which this package draws itself. Say what "
                "is in the folder (--data.name market-layout, market1501, course) or take a recipe (--config FILE)"
            )
        check(0 <= self.validation_share < 1, "data.validation-share", "in [0, 1)", self.validation_share)
        check(0 <= self.device_share < 1, "data.device-share", "in [0, 1)", self.device_share)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network: backbone, 512-unit neck, attribute heads, re-weighting, identity classifier."""

    backbone: str = "resnet50"
    """Any timm model name, a timm ResNet's with `_ibn_a` behind it (IBN-a), or `osnet_x0_25` to `osnet_x1_0`."""
    pretrained: bool = True
    """Start from timm's ImageNet weights (downloaded once)."""
    weights_file: str | None = None
    """Start the backbone from this local .safetensors file instead of downloading: a timm model's, or that of a run of
    this package (RUN/model/model.safetensors), e.g. one on drawn pedestrians."""
    height_px: int = 256
    """Height of the network's input."""
    width_px: int = 128
    """Width of the network's input."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """How images are brought to that size (always antialiased)."""
    fit: Literal["stretch", "letterbox"] = "stretch"
    """`stretch` images to the network's shape (the literature's way), or keep theirs and fill up with gray."""
    last_stride: Literal[1, 2] = 2
    """Stride of a ResNet's last stage; 1 keeps twice the resolution (Luo et al. 2019), without dilation."""
    pooling: Literal["avg", "max", "gem"] = "avg"
    """Average, maximum, or generalized mean of the last maps (Radenovic et al. 2019); for convolutional networks."""
    stripes: tuple[int, ...] = (1,)
    """Numbers of equal horizontal stripes to pool, each with a neck and an identity classifier of its own: 1 for the
    whole map alone, `1 2 4` for the whole, halves and quarters (Fu et al. 2019), 6 as in Sun et al. 2018."""
    neck: Literal["fc", "bn"] = "fc"
    """What follows pooling: the course report's fully connected layer, or batch norm alone (BNNeck, Luo et al. 2019),
    before which losses on pairs compare and after which identities are classified and retrieval compares."""
    neck_units: int = 512
    """Size of the fully connected layer of the neck `fc`, for each stripe: f of the course report."""
    classifier: Literal["linear", "arcface", "cosface"] = "linear"
    """The identity classifier of training: linear, or on cosines with a margin on the angle (Deng et al. 2019) or the
    cosine (Wang et al. 2018)."""
    attributes: bool = True
    """Train attribute heads when the data has attributes."""
    reweight: bool = True
    """Re-weight attribute scores by a learned confidence (Lin et al. 2019, section 4.2)."""
    attribute_scores: Literal["probabilities", "logits"] = "probabilities"
    """What the heads hand to re-weighting and into the feature."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """How retrieval compares features."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stripes", tuple(self.stripes))
        counts, most = self.stripes, self.height_px // 16  # rows of the last map, where it has many
        check(
            bool(counts) and all(0 < count <= most for count in counts),
            "model.stripes",
            f"numbers from 1 to {most} at model.height-px {self.height_px}",
            counts,
        )
        for name, value in (("model.height-px", self.height_px), ("model.width-px", self.width_px)):
            check(value > 0 and value % 32 == 0, name, "a positive multiple of 32", value)
        check(self.neck_units > 0, "model.neck-units", "positive", self.neck_units)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the parts of the loss; a weight of 0 turns a part off (attributes: their heads too)."""

    identity: float = 1.0
    """Weight of the identity cross-entropy."""
    attributes: float = 1.0
    """Weight of the attribute cross-entropies: their mean over the groups, times the number of groups if
    `attribute_reduction` is sum."""
    attribute_reduction: Literal["sum", "mean"] = "mean"
    """Add the groups' cross-entropies up, or average them."""
    balance_attributes: bool = False
    """Let rare values of an attribute weigh as much as common ones."""
    label_smoothing: float = 0.0
    """Smoothing of the identity labels (0.1 in Luo et al. 2019)."""
    classifier_margin: float = 0.35
    """Margin of a margin classifier: radians for arcface (0.5 in the paper), a cosine for cosface (0.35)."""
    classifier_scale: float = 30.0
    """What a margin classifier's cosines are multiplied by."""
    triplet: float = 0.0
    """Weight of the batch-hard triplet loss (Hermans et al. 2017); needs train.images-per-identity."""
    triplet_margin: float = 0.3
    """Its margin; 0 for the soft one."""
    circle: float = 0.0
    """Weight of the circle loss (Sun et al. 2020); needs train.images-per-identity."""
    circle_margin: float = 0.25
    """Its relaxation m."""
    circle_scale: float = 64.0
    """Its scale gamma."""
    center: float = 0.0
    """Weight of the center loss (Wen et al. 2016; 0.0005 in Luo et al. 2019)."""
    center_rate: float = 0.5
    """How far the centers move towards a batch's features."""
    pairs_across_processes: bool = True
    """Losses on pairs compare the images of all processes, so that they don't depend on their number; else each
    process its own."""

    @property
    def trains_identities(self) -> bool:
        """Whether any part of the loss tells people apart."""
        return self.identity + self.triplet + self.circle > 0

    def __post_init__(self) -> None:
        check(self.identity >= 0, "loss.identity", "0 or more", self.identity)
        check(self.attributes >= 0, "loss.attributes", "0 or more", self.attributes)
        for name in ("triplet", "triplet_margin", "circle", "circle_margin", "center", "classifier_margin"):
            check(getattr(self, name) >= 0, f"loss.{name.replace('_', '-')}", "0 or more", getattr(self, name))
        for name in ("circle_scale", "classifier_scale"):
            check(getattr(self, name) > 0, f"loss.{name.replace('_', '-')}", "above 0", getattr(self, name))
        check(
            not self.center or self.pairs_across_processes,
            "loss.pairs-across-processes",
            "on with loss.center, whose centers are the same on all processes",
            self.pairs_across_processes,
        )
        check(0 < self.center_rate <= 1, "loss.center-rate", "in (0, 1]", self.center_rate)
        check(0 <= self.label_smoothing < 1, "loss.label-smoothing", "in [0, 1)", self.label_smoothing)
        is_something = self.trains_identities or self.attributes > 0
        check(is_something, "loss.identity + attributes + triplet + circle", "above 0", 0)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimizer and learning rate; the rate is a function of the step alone."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """The optimizer."""
    learning_rate: float = 3.5e-4
    """Peak learning rate of the heads, and of the backbone times `backbone_rate`."""
    backbone_rate: float = 1.0
    """The backbone's learning rate as a share of the peak (0.1 for a careful fine-tuning)."""
    layer_decay: float = 1.0
    """Each block of the backbone learns at this share of the next one's rate (0.65 to 0.8 for pretrained
    transformers); 1: all alike."""
    frozen_epochs: float = 0.0
    """Epochs at the beginning in which the backbone's weights stay as they are and only the heads learn."""
    weight_decay: float = 5e-4
    """Weight decay (decoupled for adamw); biases and norms are spared."""
    momentum: float = 0.9
    """Momentum of sgd."""
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    """How the rate falls after the warm-up."""
    warmup_epochs: float = 1.0
    """Epochs of linear warm-up from 1 % of the rate."""
    step_epochs: tuple[float, ...] = (40, 70)
    """Epochs at which `steps` multiplies the rate by `step_factor`."""
    step_factor: float = 0.1
    """See `step_epochs`."""
    clip_norm: float = 0.0
    """Largest norm of the gradient; 0 doesn't clip."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "step_epochs", tuple(self.step_epochs))
        check(self.learning_rate > 0, "optim.learning-rate", "above 0", self.learning_rate)
        check(self.backbone_rate >= 0, "optim.backbone-rate", "0 or more", self.backbone_rate)
        check(0 < self.layer_decay <= 1, "optim.layer-decay", "in (0, 1]", self.layer_decay)
        check(self.frozen_epochs >= 0, "optim.frozen-epochs", "0 or more", self.frozen_epochs)
        check(self.weight_decay >= 0, "optim.weight-decay", "0 or more", self.weight_decay)
        check(self.warmup_epochs >= 0, "optim.warmup-epochs", "0 or more", self.warmup_epochs)
        check(self.clip_norm >= 0, "optim.clip-norm", "0 (off) or more", self.clip_norm)
        check(0 <= self.momentum < 1, "optim.momentum", "in [0, 1)", self.momentum)
        check(0 < self.step_factor <= 1, "optim.step-factor", "in (0, 1]", self.step_factor)
        check(all(epoch > 0 for epoch in self.step_epochs), "optim.step-epochs", "above 0", self.step_epochs)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of training images, made in batches on the training device."""

    flip_probability: float = 0.5
    """Mirror left and right."""
    pad_px: int = 10
    """Pad by this much, then crop back to size at a random place; 0 is off."""
    rotation_degrees: float = 0.0
    """Rotate by a random angle up to this, either way."""
    color_jitter: float = 0.0
    """Change brightness, contrast and saturation by a factor of up to 1 plus or minus this."""
    white_balance: float = 0.0
    """Scale red, green and blue by factors of up to 1 plus or minus this, as another camera would."""
    erase_probability: float = 0.0
    """Random erasing (Zhong et al. 2020). Off in the course recipe: it hides attributes."""
    erase_min_area: float = 0.02
    """Smallest erased share of the image."""
    erase_max_area: float = 0.4
    """Largest erased share of the image."""
    erase_with: Literal["mean", "noise"] = "mean"
    """Paint erased parts in the mean color, or in normal noise of each pixel's own."""
    patch_probability: float = 0.0
    """Paste a patch of another training image at a random place (random patch, Zhou et al. 2021)."""
    patch_min_area: float = 0.01
    """Smallest share of the image under a patch."""
    patch_max_area: float = 0.5
    """Largest share of the image under a patch."""
    trivial_augment: float = 0.0
    """Probability that an image is changed by one of 14 operations at a random strength (TrivialAugment, Müller and
    Hutter 2021): among them rotation by up to 135 degrees and shifts by up to 32 pixels."""

    def __post_init__(self) -> None:
        shares = ("flip_probability", "color_jitter", "white_balance", "erase_probability", "patch_probability")
        for name in (*shares, "trivial_augment"):
            value = getattr(self, name)
            check(0 <= value <= 1, f"augment.{name.replace('_', '-')}", "between 0 and 1", value)
        check(self.pad_px >= 0, "augment.pad-px", "0 or more", self.pad_px)
        degrees = self.rotation_degrees
        check(0 <= degrees <= 180, "augment.rotation-degrees", "between 0 and 180", degrees)
        for name in ("erase", "patch"):
            areas = (getattr(self, f"{name}_min_area"), getattr(self, f"{name}_max_area"))
            check(
                0 < areas[0] <= areas[1] < 1,
                f"augment.{name}-min-area, {name}-max-area",
                "0 < min <= max < 1",
                areas,
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, how large, how random."""

    epochs: int = 60
    """Passes over the training images."""
    batch_size: int = 64
    """Images per optimizer step, over all processes and accumulated parts together."""
    accumulation_steps: int = 1
    """Parts that a process takes its share of a batch in, when memory is short."""
    images_per_identity: int = 0
    """0: shuffled images. K: batches of batch-size / K identities with K images each (Hermans et al. 2017), as triplet
    losses need them."""
    seed: int = 0
    """Seed of everything that is random."""
    ema_decay: float = 0.0
    """Decay of an exponential moving average of the weights, which is then what is scored and saved (0.999 for long
    runs); 0 is off."""
    batch_norm: Literal["local", "synchronized", "frozen"] = "local"
    """Batch statistics of each process's own part, of the whole batch (needs GPUs; slower), or, in the backbone, none:
    those of the pretrained weights stay."""
    skip_nonfinite: int = 0
    """Leave out up to this many steps whose gradient isn't finite, then stop; 0 stops at the first. Not for fp16, whose
    gradient scaler leaves such steps out by itself, any number of them."""
    validate_every_epochs: int = 1
    """Validate after every this many epochs, and after the last."""

    def __post_init__(self) -> None:
        check(self.epochs > 0, "train.epochs", "positive", self.epochs)
        check(self.batch_size > 1, "train.batch-size", "2 or more", self.batch_size)
        check(self.accumulation_steps > 0, "train.accumulation-steps", "positive", self.accumulation_steps)
        check(self.seed >= 0, "train.seed", "0 or more", self.seed)
        check(0 <= self.ema_decay < 1, "train.ema-decay", "in [0, 1)", self.ema_decay)
        check(self.skip_nonfinite >= 0, "train.skip-nonfinite", "0 or more", self.skip_nonfinite)
        k = self.images_per_identity
        check(
            k == 0 or (k >= 2 and self.batch_size % k == 0 and self.batch_size > k),
            "train.images-per-identity",
            f"0 (shuffled images), or 2 or more and a divisor of train.batch-size ({self.batch_size}) below it",
            k,
        )
        check(
            self.validate_every_epochs > 0,
            "train.validate-every-epochs",
            "positive",
            self.validate_every_epochs,
        )

    def micro_batch_size(self, world_size: int) -> int:
        """Images that one process takes at once. Raises InputError when the batch can't be shared evenly."""
        parts = world_size * self.accumulation_steps
        if self.batch_size % parts or self.batch_size // parts < 2:
            raise InputError(
                f"train.batch-size {self.batch_size} must be a multiple of {parts} ({world_size} processes x "
                f"{self.accumulation_steps} accumulation steps), at least {2 * parts}"
            )
        return self.batch_size // parts


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """How images are embedded, and what goes into the files of predictions."""

    batch_size: int = 128
    """Images embedded at once by a process."""
    flip: bool = False
    """Average each image's embedding and attribute scores with those of its mirror image: twice the work."""
    crops: Literal[1, 5] = 1
    """5: average over the whole image and its four corners, each 7/8 as high and as wide and enlarged again: five times
    the work, ten times with `flip`."""
    rank_list_length: int = 50
    """Names per query in reid_test.txt, which are neither re-ranked nor expanded."""
    multicolor_columns: bool = False
    """Write classification_test.csv with 30 columns (own columns for multi-color) instead of 28."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "rank_list_length"):
            value = getattr(self, name)
            check(value > 0, f"score.{name.replace('_', '-')}", "positive", value)


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(PredictConfig):
    """How models are scored."""

    average_precision: Literal["standard", "trapezoid"] = "standard"
    """`standard`: every paper since 2018; `trapezoid`: Market-1501's original MATLAB evaluation."""
    rerank: bool = False
    """Score a second time after k-reciprocal re-ranking (Zhong et al. 2017: k1 = 20, k2 = 6, lambda = 0.3)."""
    query_expansion: int = 0
    """Score again after alpha query expansion with this many neighbors; 0 is off."""
    validation_queries: int = 100
    """Validation images, drawn with the seed, that query the whole validation split (course report)."""
    shown_queries: int = 10
    """Best and worst queries shown with pictures in report.html."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.validation_queries > 0, "score.validation-queries", "positive", self.validation_queries)
        check(self.query_expansion >= 0, "score.query-expansion", "0 or more", self.query_expansion)
        check(self.shown_queries >= 0, "score.shown-queries", "0 or more", self.shown_queries)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where a run lives and how it is carried out."""

    name: str = "run"
    """What the run is called: in its report, and its folder's name when `dir` isn't set."""
    dir: str | None = None
    """The run's folder: config.yaml, metrics.jsonl, checkpoints/, model/, report.json, report.html. Not set:
    runs/NAME, or runs/NAME-2, ... when that one is taken."""
    resume: str | None = None
    """Go on with a checkpoint: a path, or `auto` for the newest whole one of the run folder, and for a beginning where
    there is none. A process that a launcher has restarted takes `auto` by itself."""
    resume_anyway: bool = False
    """Resume in spite of other settings or data; the differences are printed and the epoch begins anew."""
    overwrite: bool = False
    """Begin anew in a `dir` that holds another run's results (they are deleted)."""
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = "auto"
    """`auto`: what `accelerate launch` was told, else bf16 where the hardware computes in it, else no."""
    compile: bool = False
    """Compile the network with torch.compile: a slow start, then faster steps."""
    shard_weights: bool = False
    """Share weights, gradients and the optimizer's state out over the processes (FSDP), for backbones that one GPU
    can't hold. Checkpoints stay whole: a run may go on without it."""
    tf32: bool = True
    """Let NVIDIA GPUs multiply float32 in TF32 while training (never while scoring)."""
    cpu_threads: int = 0
    """Threads of a process that computes on the CPU; 0 shares the cores out among the processes."""
    deterministic: bool = False
    """The same bits every time on the same hardware: only kernels that promise it, slower on a GPU."""
    checkpoint_steps: int = 0
    """Steps between checkpoints within an epoch; 0 leaves it to the minutes. There is one after each epoch anyhow."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints within an epoch; 0 is off."""
    keep_checkpoints: int = 2
    """Newest checkpoints kept, beside that of the best epoch."""
    stall_minutes: float = 30.0
    """With several processes: end the run when it makes no progress for so long; 0 never does."""
    log_every_steps: int = 10
    """Steps between lines of metrics.jsonl."""
    trackers: tuple[str, ...] = ()
    """Further trackers of Accelerate: tensorboard, wandb, ..."""
    push_to: str | None = None
    """Push the model to this hub repository (user/name) at the end."""
    push_private: bool = False
    """Make that repository private."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "trackers", tuple(self.trackers))
        check(self.cpu_threads >= 0, "run.cpu-threads", "0 or more", self.cpu_threads)
        check(self.checkpoint_steps >= 0, "run.checkpoint-steps", "0 (off) or more", self.checkpoint_steps)
        check(self.checkpoint_minutes >= 0, "run.checkpoint-minutes", "0 (off) or more", self.checkpoint_minutes)
        check(self.stall_minutes >= 0, "run.stall-minutes", "0 (off) or more", self.stall_minutes)
        check(self.keep_checkpoints > 0, "run.keep-checkpoints", "positive", self.keep_checkpoints)
        check(self.log_every_steps > 0, "run.log-every-steps", "positive", self.log_every_steps)


@dataclass(frozen=True, kw_only=True)
class Config:
    """A training run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        if (self.loss.triplet or self.loss.circle) and not self.train.images_per_identity:
            raise InputError(
                "loss.triplet and loss.circle compare images of one person, which batches of shuffled images seldom "
                "hold: set --train.images-per-identity 4, or leave these losses out"
            )
        if not self.loss.trains_identities and not self.model.attributes:
            raise InputError(
                "model.attributes is off and so are loss.identity, triplet and circle: nothing would be trained"
            )
        largest = {"arcface": math.pi, "cosface": 2.0}.get(self.model.classifier, math.inf)
        margin = self.loss.classifier_margin
        check(margin < largest, "loss.classifier-margin", f"below {largest:.3g}", margin)

    def micro_batch_size(self, world_size: int) -> int:
        """Images that one process takes at once. Raises InputError when the batch can't be shared evenly, or when the K
        images of a person that losses on pairs compare would lie in different parts of it.
        """
        size, k = self.train.micro_batch_size(world_size), self.train.images_per_identity
        compared = size * world_size if self.loss.pairs_across_processes else size
        if (self.loss.triplet or self.loss.circle) and (compared % k or compared < 2 * k):
            raise InputError(
                f"losses on pairs see {compared} images at once, which must be a multiple of train.images-per-identity "
                f"({k}), at least {2 * k}: raise --train.batch-size or lower --train.accumulation-steps"
            )
        return size


@dataclass(frozen=True, kw_only=True)
class ScoringConfig:
    """Scoring a saved model on a data set, or features that were saved before."""

    model: str | None = None
    """The model: a folder (RUN/model) or a hub's user/name. Not set: score what `features` holds."""
    features: str | None = None
    """A folder for the embeddings of query and gallery: written with a model, read without one. Scoring again from
    them needs neither images nor a GPU."""
    data: DataConfig = field(default_factory=DataConfig)
    also: tuple[str, ...] = ()
    """Further sets to score the model on, NAME:FOLDER each (`msmt17:path/to/MSMT17_V1`): one table for all, and a
    report of each in a folder of its own."""
    score: ScoreConfig = field(default_factory=ScoreConfig)
    seed: int = 0
    """Seed of the validation queries that are drawn for the course protocols."""
    dir: str | None = None
    """Where the report goes. Not set: runs/score, or runs/score-2, ... when that one is taken."""

    def __post_init__(self) -> None:
        if self.model is None and self.features is None:
            raise InputError("give --model RUN/model to score a model, or --features DIR to score saved features")
        object.__setattr__(self, "also", tuple(self.also))
        for entry in self.also:
            name_and_folder(entry, "also")
        if self.data.also:
            raise InputError("data.also names sets to train on; to score the model on further sets, give --also")
        if self.also and self.features is not None:
            raise InputError("--also scores a model on several sets, --features keeps one set's: leave one of them out")


@dataclass(frozen=True, kw_only=True)
class PredictionConfig:
    """Predicting for unlabeled images with a saved model."""

    model: str
    """The model: a folder (RUN/model) or a hub's user/name."""
    queries: str
    """Folder of the query images."""
    test: str
    """Folder of the images that are classified and ranked for each query."""
    on_bad_image: Literal["error", "skip"] = "error"
    """Stop at an image that can't be read, or leave it out."""
    cache_dir: str = "~/.cache/reid_accel"
    """Where decoded images are kept."""
    score: PredictConfig = field(default_factory=PredictConfig)
    dir: str = "."
    """Where classification_test.csv and reid_test.txt go."""
