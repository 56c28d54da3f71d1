"""Triton Inference Server: a model repository with one model, whose input are pixels from 0 to 255."""

from pathlib import Path

from reid_accel.config.export import ExportConfig
from reid_accel.export.contracts.readme import RESIZES, write_readme
from reid_accel.export.contracts.tool_graph import tool_graph
from reid_accel.export.job import Job
from reid_accel.export.metadata import GraphInfo
from reid_accel.files import write_text

NAME = "reid"
REPOSITORY = "models"
MOST_IN_BATCH = 64


def write(job: Job, config: ExportConfig, folder: Path) -> None:
    """Write the repository."""
    model = folder / REPOSITORY / NAME
    options = tool_graph(config, flavor="inside", pixel_range=255, attributes=True)
    written = job.file("onnx", options).copy_to(model / "1" / "model.onnx")
    write_text(model / "config.pbtxt", settings(written.info))
    write_readme(folder, "Triton", readme_lines(written.info), written)


def settings(info: GraphInfo) -> str:
    """The content of `config.pbtxt`; dimensions are without the batch."""
    sizes = [info.feature_size, *(len(group.values) for group in info.attributes)]
    outputs = ",\n".join(_tensor(name, [size]) for name, size in zip(info.output_names, sizes, strict=True))
    return f"""name: "{NAME}"
backend: "onnxruntime"
max_batch_size: {MOST_IN_BATCH}
input [
{_tensor(info.input_name, [3, info.height_px, info.width_px])}
]
output [
{outputs}
]
dynamic_batching {{ }}
"""


def _tensor(name: str, dims: list[int]) -> str:
    return f'  {{ name: "{name}", data_type: TYPE_FP32, dims: [ {", ".join(map(str, dims))} ] }}'


def readme_lines(info: GraphInfo) -> list[str]:
    """What to put where."""
    size = f"{info.height_px} x {info.width_px}"
    fitted = "stretched" if info.fit == "stretch" else f"letterboxed (padding RGB {', '.join(map(str, info.padding))})"
    compare = "the cosine" if info.metric == "cosine" else "the euclidean distance"
    return [
        f"Start `tritonserver --model-repository {REPOSITORY}`, or copy `{REPOSITORY}/{NAME}` into your repository.",
        f"Send `{info.input_name}`: float32 RGB from 0 to 255, 3 x {size}, crops {fitted} by "
        f"{RESIZES[info.interpolation]}.",
        f"`{info.output_names[0]}` has {info.feature_size} numbers for each crop; compare them by {compare}.",
        f"Up to {MOST_IN_BATCH} crops make a batch: `max_batch_size` in `config.pbtxt`.",
    ]
