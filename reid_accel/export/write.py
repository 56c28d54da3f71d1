"""`reid-accel export`: from a model to a folder of proven files."""

import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from reid_accel.config.checks import in_home
from reid_accel.config.export import ExportConfig
from reid_accel.config.export_graph import FORMATS
from reid_accel.data.listing import find_images
from reid_accel.errors import InputError, explaining_os_errors
from reid_accel.export.contracts.tools import TOOL_WRITERS, check_tools, formats_of
from reid_accel.export.golden import write_golden
from reid_accel.export.graph import without_identities
from reid_accel.export.job import Job, Written
from reid_accel.export.manifest import MANIFEST, write_manifest
from reid_accel.export.packages import check_packages
from reid_accel.export.parity import reference
from reid_accel.export.pictures import images_of_the_run, proof_pictures
from reid_accel.export.tensorrt import TENSORRT_FILE, trtexec_line
from reid_accel.files import replacing_folder
from reid_accel.models.reid import ReIDModel, load_model

NAME = "model"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """An export: its folder and the proven files in it."""

    folder: Path
    written: tuple[Written, ...]
    tools: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The export as text."""
        rows = []
        for file in self.written:
            proof = file.proof
            batches = ", ".join(map(str, proof.batches))
            rows.append(
                f"{self.folder / file.path.name}: equal to the model on {proof.num_images} images at batch sizes "
                f"{batches} (lowest cosine {proof.lowest_cosine:.6f})"
            )
            rows += [f"note: {note}" for note in file.notes]
        rows += [f"{self.folder / tool}: files for {tool}, see the README.md there" for tool in self.tools]
        return rows


def export(name: str, config: ExportConfig, module: str | None = None) -> Exported:
    """Export a saved model, a folder or a hub's user/name.

    Raises InputError, and leaves nothing behind, for what can't be exported or isn't equal to the model.
    """
    check_packages((*config.to, *formats_of(config.tools)))
    folder = chosen_folder(name, config)
    check_free(folder, config.overwrite)
    images = find_images(Path(config.images)) if config.images else []
    model = load_model(name, module)
    place = Path(in_home(name))
    return export_model(model, config, folder, [*images, *(images_of_the_run(place) if place.is_dir() else [])])


def export_model(model: ReIDModel, config: ExportConfig, folder: Path, images: list[Path]) -> Exported:
    """Export a loaded model to a new folder; images: files to prove it on, beside drawn pedestrians."""
    check_packages((*config.to, *formats_of(config.tools)))
    check_free(folder, config.overwrite)
    check_tools(config.tools, model.architecture)
    wanted = reference(without_identities(model), proof_pictures(model.architecture, images))
    with explaining_os_errors(), replacing_folder(folder) as place, tempfile.TemporaryDirectory(dir=place) as scratch:
        job = Job(model, wanted, Path(scratch))
        written = tuple(job.file(form, config.graph).copy_to(place / f"{NAME}{FORMATS[form]}") for form in config.to)
        write_golden(place, wanted)
        for file in written:
            if file.form == "onnx":
                (place / TENSORRT_FILE).write_text(trtexec_line(file), encoding="utf-8")
        for tool in config.tools:
            TOOL_WRITERS[tool](job, config, place / tool)
        for path in Path(scratch).iterdir():
            shutil.rmtree(path)
        write_manifest(place, [file.description() for file in written], config.tools)
    return Exported(folder, written, config.tools)


def export_to(model: ReIDModel, out: str | Path, settings: Mapping[str, Any]) -> Path:
    """`ReIDModel.export`: the new folder. settings: fields of `ExportConfig`."""
    known = [field.name for field in fields(ExportConfig)]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise InputError(f"there is no setting {unknown[0]} of an export; there are {', '.join(known)}")
    config = ExportConfig(**{**settings, "out": str(out)})
    if config.int8:
        raise InputError("int8 needs the images of a run: use `reid-accel export RUN/model --int8`")
    images = find_images(Path(config.images)) if config.images else []
    return export_model(model, config, chosen_folder("", config), images).folder


def chosen_folder(name: str, config: ExportConfig) -> Path:
    """The folder that an export is written to."""
    if config.out is not None:
        return Path(config.out)
    place = Path(in_home(name))
    return place.resolve().parent / "export" if place.is_dir() else Path(f"{name.rpartition('/')[2]}-export")


def check_free(folder: Path, overwrite: bool) -> None:
    """Raise InputError unless a folder is new or empty, or an export that may be replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not (folder / MANIFEST).is_file():
        raise InputError(f"{folder} exists already and is no earlier export: choose another folder with --out")
    if not overwrite:
        raise InputError(
            f"{folder} has an earlier export: replace it with --overwrite, or choose another folder with --out"
        )
