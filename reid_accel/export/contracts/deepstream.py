"""NVIDIA DeepStream's nvtracker: an ONNX file and the `ReID:` section of a tracker's settings.

nvtracker computes netScaleFactor * (pixel - offset) with one factor for all channels, so the division by each
channel's deviation is in the graph: factor 1, offsets 0.
"""

from pathlib import Path

from reid_accel.config.export import ExportConfig
from reid_accel.export.contracts.readme import write_readme
from reid_accel.export.contracts.tool_graph import tool_graph
from reid_accel.export.job import Job
from reid_accel.export.metadata import GraphInfo
from reid_accel.files import write_text

FILE = "reid.onnx"
SETTINGS_FILE = "reid.yml"
BATCH = 100  # nvtracker's own default
PRECISIONS = {"float32": (0, "fp32"), "half": (1, "fp16")}
"""networkMode and its word in an engine's name, by the export's precision."""


def write(job: Job, config: ExportConfig, folder: Path) -> None:
    """Write the ONNX file and the settings."""
    written = job.file("onnx", tool_graph(config, flavor="inside", pixel_range=255)).copy_to(folder / FILE)
    write_text(folder / SETTINGS_FILE, settings(written.info))
    write_readme(folder, "DeepStream", readme_lines(), written)


def settings(info: GraphInfo) -> str:
    """The `ReID:` section."""
    mode, word = PRECISIONS[info.precision]
    return f"""ReID:
  reidType: 2  # 1: NvDeepSORT, 2: association after gaps, 3: both
  batchSize: {BATCH}
  workspaceSize: 1000
  reidFeatureSize: {info.feature_size}
  reidHistorySize: 100
  inferDims: [3, {info.height_px}, {info.width_px}]
  inputOrder: 0  # NCHW
  colorFormat: 0  # RGB
  networkMode: {mode}  # {word}
  offsets: [0.0, 0.0, 0.0]
  netScaleFactor: 1.0
  keepAspc: {int(info.fit == "letterbox")}
  addFeatureNormalization: 1
  useVPICropScaler: 1
  onnxFile: "{FILE}"
  modelEngineFile: "{FILE}_b{BATCH}_gpu0_{word}.engine"
"""


def readme_lines() -> list[str]:
    """What to put where."""
    return [
        f"Copy `{FILE}` to the GPU machine; set `onnxFile` and `modelEngineFile` in `{SETTINGS_FILE}` to its place.",
        "Replace the section `ReID:` of your tracker's settings (such as `config_tracker_NvDCF_accuracy.yml`) by that "
        f"of `{SETTINGS_FILE}`.",
        "Name that file as `ll-config-file` of `nvtracker`; the first start builds the engine, which takes minutes.",
        "Not run with DeepStream here, since it needs its own GPU; crops are resized by it, not by Pillow.",
    ]
