"""Settings of evaluation and prediction."""

from dataclasses import dataclass, field
from typing import Literal

from reid_accel.config.checks import LogLevel, check_each, expand_homes
from reid_accel.config.data import DataConfig, name_and_folder
from reid_accel.config.export_graph import FORMATS
from reid_accel.errors import InputError


def is_exported(model: str) -> bool:
    """Whether a model's name is that of an exported file.

    >>> is_exported("export/model.onnx"), is_exported("user/name"), is_exported("RUN/model")
    (True, False, False)
    """
    return model.endswith(tuple(FORMATS.values()))


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Embedding of images, and the prediction files."""

    batch_size: int = 128
    """Images per forward pass of a process."""
    flip: bool = False
    """Flip test-time augmentation: average embeddings and attribute scores over each image and its mirror image."""
    crops: Literal[1, 5] = 1
    """Crop test-time augmentation; 5: average over the image and its four corner crops (7/8 of the size, resized)."""
    rank_list_length: int = 50
    """Names per query in reid_test.txt, or tracklets per query in rank_lists.csv."""
    multicolor_columns: bool = False
    """Write classification_test.csv with 30 columns (separate columns for multi-color) instead of 28."""

    def __post_init__(self) -> None:
        check_each(self, "score", ("batch_size", "rank_list_length"), 1, "positive")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(PredictConfig):
    """Evaluation of models."""

    average_precision: Literal["standard", "trapezoid"] = "standard"
    """AP definition: `standard` (papers since 2018) or `trapezoid` (Market-1501's original MATLAB code)."""
    rerank: bool = False
    """Also report scores after k-reciprocal re-ranking (Zhong et al. 2017: k1 = 20, k2 = 6, lambda = 0.3)."""
    query_expansion: int = 0
    """Also report scores after alpha query expansion with this many neighbors; 0: off."""
    tracklets: Literal["mean", "quality", "medoid"] | None = None
    """Compare tracklets instead of images of query and gallery, for sets with tracklets (names like
    0001C1T0001F001.jpg, or a column tracklet). A tracklet's feature is the `mean` of its images', their mean weighted
    by `quality` (the feature's norm before batch norm), or that of its `medoid` image."""
    validation_queries: int = 100
    """Number of validation images drawn as queries against all validation images (course protocol)."""
    shown_queries: int = 10
    """Number of best and of worst queries shown in report.html."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_each(self, "score", ("validation_queries",), 1, "positive")
        check_each(self, "score", ("query_expansion", "shown_queries"), 0, "0 or more")


@dataclass(frozen=True, kw_only=True)
class ScoringConfig:
    """Evaluate a saved model on a data set, or evaluate saved features."""

    model: str | None = None
    """Model folder (RUN/model), hub repository (user/name) or exported file (.onnx, .xml, .torchscript, .pt2). If not
    set, saved `features` are evaluated."""
    preprocess: Literal["imagenet", "half", "inside"] | None = None
    """How images are prepared for a `model` that is an .onnx or .xml file of another program: normalized by ImageNet's
    mean and standard deviation, by 0.5 and 0.5, or inside the file (RGB from 0 to 1)."""
    model_module: str | None = None
    """Python module to import first, which registers the model's backbone with timm if timm doesn't have it."""
    features: str | None = None
    """Folder for the embeddings of query and gallery: written if a model is given, else read. Saved features need
    neither images nor a GPU."""
    data: DataConfig = field(default_factory=DataConfig)
    also: tuple[str, ...] = ()
    """Additional sets to evaluate on, NAME:FOLDER each (`msmt17:path/to/MSMT17_V1`); one table compares them, and each
    has its own report."""
    cameras: Literal["auto", "same", "other"] = "auto"
    """For a model with a camera embedding: whether the data's cameras are the `same` that it was trained on, or `other`
    ones, which get the mean of all vectors. `auto`: the same if the training set had this data.name (with
    market-layout, folders and tables also a folder of this name)."""
    score: ScoreConfig = field(default_factory=ScoreConfig)
    seed: int = 0
    """Seed of the validation queries of the course protocols."""
    dir: str | None = None
    """Report folder. Default: runs/score, or the first free one of runs/score-2, runs/score-3, ..."""
    log_level: LogLevel = "info"
    """Least severe messages to print; `warning`: only warnings, errors and the final table."""

    def __post_init__(self) -> None:
        if self.model is None and self.features is None:
            raise InputError("give --model RUN/model to score a model, or --features DIR to score saved features")
        object.__setattr__(self, "also", tuple(self.also))
        expand_homes(self, ("model", "features", "also", "dir"))
        for entry in self.also:
            name_and_folder(entry, "also")
        if self.data.also:
            raise InputError("data.also names training sets; to score the model on additional sets, use --also")
        if self.also and self.features is not None:
            raise InputError("--also scores several sets, --features stores one set: use only one of them")


@dataclass(frozen=True, kw_only=True)
class PredictionConfig:
    """Predict attributes and rank lists for unlabeled images with a saved model."""

    model: str
    """Model folder (RUN/model), hub repository (user/name) or exported file (.onnx, .xml, .torchscript, .pt2)."""
    preprocess: Literal["imagenet", "half", "inside"] | None = None
    """As for `reid-accel score`."""
    model_module: str | None = None
    """Python module to import first, which registers the model's backbone with timm if timm doesn't have it."""
    queries: str | None = None
    """Query images: a folder (searched recursively) or a single image."""
    test: str | None = None
    """Images to classify and to rank for each query: a folder (searched recursively) or a single image."""
    video_crops: str | None = None
    """A tracker's crops, one folder per tracklet (ID/frame.jpg), instead of `test`: tracklets.csv gets a row for each,
    and with `queries`, rank_lists.csv the nearest tracklets of each query."""
    pooling: Literal["mean", "quality", "medoid"] = "mean"
    """A tracklet's feature: the `mean` of its images', their mean weighted by `quality` (the feature's norm before
    batch norm), or that of its `medoid` image."""
    on_bad_image: Literal["error", "skip"] = "error"
    """Unreadable images: stop with an error, or skip them."""
    cache_dir: str = "~/.cache/reid_accel"
    """Cache folder for decoded images."""
    score: PredictConfig = field(default_factory=PredictConfig)
    save_features: bool = False
    """Also write the embeddings (features/) and the distances of the ranked images (distances.tsv)."""
    dir: str | None = None
    """Output folder of classification_test.csv, reid_test.txt and junk_scores.tsv. Default: runs/predict, or the first
    free one of runs/predict-2, runs/predict-3, ..."""
    log_level: LogLevel = "info"
    """Least severe messages to print; `warning`: only warnings and errors."""

    def __post_init__(self) -> None:
        expand_homes(self, ("model", "queries", "test", "video_crops", "dir"))
        if self.video_crops is not None and self.test is not None:
            raise InputError("--video-crops takes the place of --test: use only one of them")
        if self.video_crops is None and (self.queries is None or self.test is None):
            raise InputError("give --queries and --test, each an image or a folder, or --video-crops FOLDER")
