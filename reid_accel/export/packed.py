"""An export that goes to a hub with its model: its files, and what the card says about them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_accel.config.export import ExportConfig
from reid_accel.config.export_graph import FORMATS
from reid_accel.errors import InputError
from reid_accel.export.manifest import MANIFEST, check_hashes, read_manifest
from reid_accel.export.write import chosen_folder, export
from reid_accel.models.reid import load_model, model_fingerprint

PUSHED_FORMATS = ("onnx", "openvino", "torch-export")
"""Those without pickled parts, which hubs warn of."""
FOLDER_ON_HUB = "export"
_LOADED_BY = {
    "onnx": "ONNX Runtime: `onnxruntime.InferenceSession`; TensorRT: `trtexec.sh`",
    "openvino": "OpenVINO: `openvino.Core().compile_model`; the `.bin` lies beside it",
    "torch-export": "torch: `torch.export.load`",
}


@dataclass(frozen=True)
class PackedExport:
    """The files of an export by their names on the hub, and its section of the model's card, in Markdown."""

    files: Mapping[str, Path]
    section: str


def packed_export(model_folder: Path, formats: Sequence[str]) -> PackedExport:
    """The export beside a model's folder, with these formats; it is made where there is none yet.

    Raises InputError for an export of another model, one that was changed, or one without a format.
    """
    unsafe = [form for form in formats if form not in PUSHED_FORMATS]
    if unsafe:
        raise InputError(
            f"--with: {unsafe[0]} is not pushed, since its files have pickled parts: push onnx or openvino"
        )
    folder = chosen_folder(str(model_folder), ExportConfig())
    if not folder.exists():
        export(str(model_folder), ExportConfig(to=tuple(formats)))
    content = read_manifest(folder)
    exported = {entry["format"] for entry in content["exports"]}
    missing = [form for form in formats if form not in exported]
    again = f"run `reid-accel export {model_folder} --to {','.join(formats)} --overwrite`"
    if missing:
        raise InputError(f"{folder} has no {missing[0]} file: {again}")
    fingerprint = model_fingerprint(load_model(model_folder))
    if any(entry["graph"]["model_fingerprint"] != fingerprint for entry in content["exports"]):
        raise InputError(f"{folder} is the export of another model than {model_folder}: {again}")
    check_hashes(folder, content)
    names = pushed_names(content["sha256"], formats)
    files = {f"{FOLDER_ON_HUB}/{name}": folder / name for name in sorted([*names, MANIFEST])}
    tools = [tool for tool in content["tools"] if any(name.startswith(f"{tool}/") for name in names)]
    return PackedExport(files, card_section(content["exports"], tools, formats))


def pushed_names(names: Iterable[str], formats: Sequence[str]) -> list[str]:
    """The files of an export that go to a hub: those of the formats, and the tools' folders without pickled parts."""
    names = list(names)
    pickled = {name.partition("/")[0] for name in names if name.endswith(FORMATS["torchscript"])}
    left_out = {FORMATS[form] for form in PUSHED_FORMATS if form not in formats}
    left_out |= {".bin"} if "openvino" not in formats else set()
    kept = [name for name in names if name.partition("/")[0] not in pickled]
    return [name for name in kept if "/" in name or Path(name).suffix not in left_out]


def card_section(exports: Sequence[Mapping[str, Any]], tools: Sequence[str], formats: Sequence[str]) -> str:
    """The card's section on an export: which tools load the files, what they expect, how they were proven."""
    entries = [entry for entry in exports if entry["format"] in formats]
    rows = [
        f"| `{FOLDER_ON_HUB}/{entry['file']}` | {_LOADED_BY[entry['format']]} | {_expects(entry['graph'])} | "
        f"{entry['lowest_cosine']:.6f} |"
        for entry in entries
    ]
    places = [f"- {tool}: see `{FOLDER_ON_HUB}/{tool}/README.md`" for tool in tools]
    batches = ", ".join(map(str, entries[0]["batches"]))
    return "\n".join(
        [
            "## Exported files",
            "",
            "| file | loaded by | input | lowest cosine |",
            "|---|---|---|---:|",
            *rows,
            "",
            f"Each file returned the model's features on {entries[0]['num_images']} images at batch sizes {batches}: "
            "the last column is the lowest cosine between a feature of the file and the model's. To repeat this on "
            "another machine, with numpy and the runtime: "
            f"`cd {FOLDER_ON_HUB} && python check.py {entries[0]['file']}`.",
            "",
            *places,
            *([""] if places else []),
        ]
    )


def _expects(graph: Mapping[str, Any]) -> str:
    """What a graph's input is, in a few words."""
    size = f"N x 3 x {graph['height_px']} x {graph['width_px']}, {graph['color'].upper()}"
    if graph["normalize"] == "graph":
        return f"`{graph['input_name']}`: {size}, 0 to {graph['pixel_range']}"
    mean, std = (" ".join(f"{value:g}" for value in graph[name]) for name in ("mean", "std"))
    return f"`{graph['input_name']}`: {size}, 0 to 1, minus {mean}, divided by {std}"
