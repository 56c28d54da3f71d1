"""Every setting of a run: frozen dataclasses, checked when built. The docstring under a field is its help text."""

from dataclasses import dataclass, field, fields

from reid_accel.config.checks import check, check_finite
from reid_accel.config.data import AugmentConfig, DataConfig, DatasetName, added_set, name_and_folder
from reid_accel.config.model import MARGIN_LIMITS, LossConfig, ModelConfig
from reid_accel.config.scoring import PredictConfig, PredictionConfig, ScoreConfig, ScoringConfig
from reid_accel.config.training import OptimConfig, RunConfig, TrainConfig
from reid_accel.errors import InputError

__all__ = [
    "AugmentConfig",
    "Config",
    "DataConfig",
    "DatasetName",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "PredictConfig",
    "PredictionConfig",
    "RunConfig",
    "ScoreConfig",
    "ScoringConfig",
    "TrainConfig",
    "added_set",
    "name_and_folder",
]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Train a person re-identification model with attributes, evaluate it, and package it."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        for section in fields(self):
            check_finite(getattr(self, section.name), section.name)
        if (self.loss.triplet or self.loss.circle) and not self.train.images_per_identity:
            raise InputError(
                "loss.triplet and loss.circle need several images per identity in a batch: set "
                "--train.images-per-identity 4, or turn these losses off"
            )
        if not self.loss.trains_identities and not self.model.attributes:
            raise InputError(
                "model.attributes is off and so are loss.identity, triplet and circle: nothing would be trained"
            )
        margin, limit = self.loss.classifier_margin, MARGIN_LIMITS[self.model.classifier]
        check(margin < limit, "loss.classifier-margin", f"below {limit:.3g}", margin)

    def micro_batch_size(self, world_size: int) -> int:
        """Images per forward pass of one process.

        Raises InputError when the batch can't be divided evenly, or when the K images of an identity that metric losses
        compare would be in different parts of it.
        """
        size, k = self.train.micro_batch_size(world_size), self.train.images_per_identity
        compared = size * world_size if self.loss.pairs_across_processes else size
        if (self.loss.triplet or self.loss.circle) and (compared % k or compared < 2 * k):
            raise InputError(
                f"metric losses see {compared} images at once, which must be a multiple of train.images-per-identity "
                f"({k}), at least {2 * k}: raise --train.batch-size or lower --train.accumulation-steps"
            )
        return size
