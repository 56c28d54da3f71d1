"""roboflow's `reid` (checked with 0.1.0rc1): a folder that `ReIDModel.from_pretrained` loads.

It builds a network from a name, `timm:NAME` or an OSNet's, and takes weights only if all of them fit. What no such name
describes goes as a TorchScript module, which `from_pretrained` takes as the architecture. Crops are resized by Pillow,
as in training.
"""

from pathlib import Path

from safetensors.torch import save_file

from reid_accel.augment.ops import normalize
from reid_accel.config.export import ExportConfig
from reid_accel.errors import InputError
from reid_accel.export.contracts.readme import RESIZES, resize_line, write_readme
from reid_accel.export.contracts.tool_graph import tool_graph
from reid_accel.export.graph import without_identities
from reid_accel.export.job import Job
from reid_accel.export.named_networks import named_network
from reid_accel.files import write_json
from reid_accel.models.architecture import Architecture

CONFIG_FILE, WEIGHTS_FILE, MODULE_FILE = "reid_config.json", "weights.safetensors", "reid.torchscript"
PREPROCESSING_FILE = "preprocessing.json"
_LOADING = (
    "`import json, torch; from reid import ReIDModel, ReIDPreprocessing; steps = ReIDPreprocessing.from_dict(json.load("
    f'open("{PREPROCESSING_FILE}"))); model = ReIDModel.from_pretrained(architecture=torch.jit.load("{MODULE_FILE}"), '
    "preprocessing=steps)`."
)
IMAGES = 4  # to compare timm's network with the model


def write(job: Job, config: ExportConfig, folder: Path) -> None:
    """Write the network's name and weights, or a TorchScript module where no name describes the model."""
    architecture = job.model.architecture
    images = normalize(job.wanted.images_N3HW[:IMAGES], architecture.mean, architecture.std)
    try:
        name, weights = named_network(without_identities(job.model), images)
    except InputError as obstacle:
        _write_module(job, config, folder, str(obstacle))
        return
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.detach().clone().contiguous() for key, value in weights.items()}, folder / WEIGHTS_FILE)
    write_json(folder / CONFIG_FILE, {"architecture": name, "preprocessing": preprocessing(architecture)})
    lines = [
        f"Copy this folder; `{CONFIG_FILE}` names the network `{name}`, `{WEIGHTS_FILE}` has its weights.",
        'In Python: `from reid import ReIDModel; model = ReIDModel.from_pretrained("FOLDER")`.',
        *_common(architecture),
    ]
    write_readme(folder, "roboflow's reid", lines)


def preprocessing(architecture: Architecture) -> dict[str, object]:
    """What `reid` does with a crop, in its own words."""
    return {
        "input_size": [architecture.height_px, architecture.width_px],
        "mean": list(architecture.mean),
        "std": list(architecture.std),
        "interpolation": "bicubic" if architecture.interpolation == "bicubic" else "bilinear",
        "to_rgb": True,
        "resize_mode": "stretch",
        "pad_value": 114,
    }


def _write_module(job: Job, config: ExportConfig, folder: Path, obstacle: str) -> None:
    options = tool_graph(config, flavor="raw")
    written = job.file("torchscript", options).copy_to(folder / MODULE_FILE)
    write_json(folder / PREPROCESSING_FILE, preprocessing(job.model.architecture))
    lines = [
        f"It goes as a module, `{MODULE_FILE}`, since `reid` builds no such network from a name: {obstacle}.",
        f"In Python: {_LOADING}",
        *_common(job.model.architecture),
    ]
    write_readme(folder, "roboflow's reid", lines, written)


def _common(architecture: Architecture) -> list[str]:
    theirs = "bicubic" if architecture.interpolation == "bicubic" else "bilinear"
    return [
        "Then `model.extract_embeddings(detections, frame)` with `supervision` detections and a BGR frame.",
        resize_line("reid", RESIZES[theirs], architecture.interpolation),
    ]
