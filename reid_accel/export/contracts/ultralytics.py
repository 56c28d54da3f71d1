"""Ultralytics' trackers (checked with 8.4.190): an ONNX file that normalizes by itself, and two lines of settings.

The trackers crop with a margin (2 % and 10 pixels), resize without antialiasing, divide by 255 and do no more; they
read the input's size from an ONNX file only, so OpenVINO and TorchScript files would get 224 x 224.
"""

from pathlib import Path

from reid_accel.config.export import ExportConfig
from reid_accel.export.contracts.readme import resize_line, write_readme
from reid_accel.export.contracts.tool_graph import tool_graph
from reid_accel.export.job import Job
from reid_accel.export.metadata import GraphInfo
from reid_accel.files import write_text

FILE = "reid.onnx"
SETTINGS_FILE = "reid.yaml"
SETTINGS = f"with_reid: True\nmodel: {FILE}  # with its path\n"


def write(job: Job, config: ExportConfig, folder: Path) -> None:
    """Write the ONNX file and the lines for a tracker's settings."""
    written = job.file("onnx", tool_graph(config, flavor="inside")).copy_to(folder / FILE)
    write_text(folder / SETTINGS_FILE, SETTINGS)
    write_readme(folder, "ultralytics", readme_lines(written.info), written)


def readme_lines(info: GraphInfo) -> list[str]:
    """What to put where."""
    return [
        f"Copy `{FILE}` to a place of your choice.",
        "Copy `botsort.yaml`, `deepocsort.yaml` or `tracktrack.yaml` from ultralytics' `cfg/trackers/`, and set in the "
        f"copy the two lines of `{SETTINGS_FILE}`, with the path of `{FILE}`.",
        'Track with it: `YOLO("yolo11n.pt").track(VIDEO, tracker="botsort.yaml")`, the name being your copy\'s.',
        resize_line("ultralytics", "torch's bilinear interpolation without antialiasing", info.interpolation),
    ]
