"""`reid-accel export --int8`: quantized on images of the run, and kept only if the run's own scores hardly fall.

Legend: B batch, H W pixels.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_accel.config.checks import in_home
from reid_accel.config.export import ExportConfig
from reid_accel.config.parse import recipe_config
from reid_accel.config.schema import Config, ScoreConfig
from reid_accel.data.images import ImageSize, read_image, to_pixels
from reid_accel.data.open import open_data
from reid_accel.data.splits import OpenedData
from reid_accel.errors import InputError
from reid_accel.evaluation.evaluate import score_variants
from reid_accel.export import onnx_file
from reid_accel.export.manifest import read_manifest, write_manifest
from reid_accel.export.metadata import GraphInfo
from reid_accel.export.packages import package
from reid_accel.export.pictures import CONFIG_FILE
from reid_accel.export.quantize import METHODS, Int8Method, quantize
from reid_accel.export.runtimes import as_tensor, graph_input
from reid_accel.export.write import NAME, Exported, export
from reid_accel.files import replacing
from reid_accel.models.model_folder import check_model_name
from reid_accel.models.reid import load_model
from reid_accel.retrieval.embed import embed_dataset
from reid_accel.retrieval.exported import ExportedModel, load_exported
from reid_accel.retrieval.metrics import RetrievalScores

INT8_FILE = f"{NAME}-int8.onnx"
CALIBRATION_IMAGES = 256
IMAGES_AT_ONCE = 16

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """A way to quantize, and what it costs."""

    method: Int8Method
    before: RetrievalScores
    after: RetrievalScores

    @property
    def drop(self) -> float:
        """How many points of mAP are lost; below 0 if some are gained."""
        return 100 * (self.before.mean_ap - self.after.mean_ap)

    def line(self) -> str:
        """The attempt as text."""
        return (
            f"int8, {self.method.name}: mAP {100 * self.before.mean_ap:.2f} % -> {100 * self.after.mean_ap:.2f} % "
            f"({-self.drop:+.2f} points; {self.after.stamp})"
        )


def export_with_int8(name: str, config: ExportConfig, module: str | None = None) -> list[str]:
    """Export a run's model, and with `--int8` also quantize its ONNX file; returns what was written, as text.

    Raises InputError if the run's images aren't there, or every way to quantize costs more than `max_drop` points of
    mAP; the other files of the export are complete then.
    """
    if not config.int8:
        return export(name, config, module).lines()
    check_model_name(name)
    run = run_config(name)
    data = open_data(run.data, load_model(name, module).architecture, for_training=False)
    if not data.labeled_test:
        raise InputError(f"--int8 scores query and gallery, but {run.data.name} has neither: leave --int8 out")
    exported = export(name, config, module)
    return [*exported.lines(), *_quantize_export(exported, data, run.score, config.max_drop)]


def run_config(name: str) -> Config:
    """The settings of the run that a model folder belongs to. Raises InputError if there are none."""
    config_file = Path(in_home(name)).resolve().parent / CONFIG_FILE
    if not config_file.is_file():
        raise InputError(
            f"--int8 needs the images of the run, which {CONFIG_FILE} beside the model's folder names, but there is no "
            f"{config_file}: export RUN/model, or leave --int8 out"
        )
    return recipe_config(Config, str(config_file))


def _quantize_export(exported: Exported, data: OpenedData, config: ScoreConfig, max_drop: float) -> list[str]:
    source = exported.folder / f"{NAME}.onnx"
    full = load_exported(source)
    before = _scores(full, data, config)
    batches = list(calibration_batches(data, full.architecture))
    lines = []
    for method in METHODS:
        with tempfile.TemporaryDirectory() as scratch:
            trial = Path(scratch) / INT8_FILE
            info = quantize(source, trial, batches, method, full.architecture)
            try:
                attempt = Attempt(method, before, _scores(load_exported(trial), data, config))
            except InputError as error:  # features that are all zero or not finite
                lines.append(f"int8, {method.name}: cannot be scored ({error})")
                continue
            lines.append(attempt.line())
            if attempt.drop < max_drop:
                keep(trial, exported, info, attempt)
                return [*lines, f"{exported.folder / INT8_FILE}: quantized on {sum(map(len, batches))} training images"]
    raise InputError(
        f"the int8 file is not written, since mAP falls by {max_drop:g} points or more ({'; '.join(lines)}); the other "
        f"files in {exported.folder} are complete. Raise --max-drop, or leave --int8 out"
    )


def keep(trial: Path, exported: Exported, info: GraphInfo, attempt: Attempt) -> None:
    """Put a quantized file into the export, with its scores in its metadata and in the manifest."""
    scored = replace(info, mean_ap_float32=attempt.before.mean_ap, mean_ap=attempt.after.mean_ap)
    onnx = package("onnx", "--int8")
    with replacing(exported.folder / INT8_FILE) as temporary:
        onnx_file.save(onnx.load(str(trial)), scored, temporary)
    entries: list[Any] = [file.description() for file in exported.written]
    entries.append(
        {
            "file": INT8_FILE,
            "format": "onnx",
            "method": attempt.method.name,
            "drop_points": attempt.drop,
            "protocol": attempt.after.stamp,
            "graph": asdict(scored),
        }
    )
    write_manifest(exported.folder, entries, list(read_manifest(exported.folder)["tools"]))


def _scores(model: ExportedModel, data: OpenedData, config: ScoreConfig) -> RetrievalScores:
    plain = replace(config, rerank=False, query_expansion=0)
    query, gallery = (embed_dataset(model, data.splits[split], plain)[0] for split in ("query", "gallery"))
    scores = score_variants(query, gallery, model.architecture.metric, plain)
    if not scores:
        raise InputError(
            "--int8: no query of the run has a match in the gallery, so that nothing can be scored: leave it out"
        )
    return scores[0]


def calibration_batches(data: OpenedData, info: GraphInfo) -> Iterator[npt.NDArray[np.float32]]:
    """Training images at equal distances in the listing, as the graph expects them."""
    paths = data.splits["train"].path_N
    chosen: Sequence[Path] = paths[:: max(1, -(-len(paths) // CALIBRATION_IMAGES))]
    for start in range(0, len(chosen), IMAGES_AT_ONCE):
        pixels = [_pixels(path, info) for path in chosen[start : start + IMAGES_AT_ONCE]]
        yield graph_input(as_tensor(pixels), info)


def _pixels(path: Path, size: ImageSize) -> npt.NDArray[np.uint8]:
    return to_pixels(read_image(path), size).transpose(1, 2, 0)
