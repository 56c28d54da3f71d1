"""One export: files are written once for each graph and format, and only proven ones get their name."""

import shutil
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from reid_accel.config.export_graph import FORMATS, GraphOptions
from reid_accel.errors import InputError
from reid_accel.export import onnx_file, openvino_file, torch_files
from reid_accel.export.graph import ExportGraph
from reid_accel.export.metadata import GraphInfo, info_of
from reid_accel.export.parity import Proof, Reference, prove
from reid_accel.export.runtimes import open_runtime
from reid_accel.models.reid import ReIDModel


@dataclass(frozen=True)
class Written:
    """A file that has been proven equal to the network. beside: further files that it needs."""

    path: Path
    form: str
    info: GraphInfo
    proof: Proof
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, and the weights that lie beside it."""
        return (self.path, self.path.with_suffix(".bin")) if self.form == "openvino" else (self.path,)

    def description(self) -> dict[str, Any]:
        """What the export's manifest says about the file."""
        proven = {"file": self.path.name, "format": self.form, **asdict(self.proof)}
        return {**proven, "notes": self.notes, "graph": asdict(self.info)}

    def copy_to(self, path: Path) -> "Written":
        """The same file in another place; `path` has its suffix."""
        path.parent.mkdir(parents=True, exist_ok=True)
        for source in self.files:
            shutil.copyfile(source, path.with_suffix(source.suffix))
        return replace(self, path=path)


@dataclass(frozen=True)
class Job:
    """A model, what it is proven on, and a folder for files until they are copied to their places."""

    model: ReIDModel
    wanted: Reference
    scratch: Path
    written: dict[tuple[str, GraphOptions], Written] = field(default_factory=dict)

    def file(self, form: str, options: GraphOptions) -> Written:
        """A proven file of a format and a graph, written at the first call. Raises InputError where it isn't equal.

        Copy it to its place with `copy_to`.
        """
        key = (form, options)
        if key not in self.written:
            place = Path(tempfile.mkdtemp(dir=self.scratch))
            self.written[key] = self._proven(form, options, place / f"model{FORMATS[form]}")
        return self.written[key]

    def _proven(self, form: str, options: GraphOptions, path: Path) -> Written:
        info = info_of(self.model, options)
        notes: tuple[str, ...] = ()
        if form == "openvino":
            onnx = self.file("onnx", replace(options, half=False))  # OpenVINO halves the weights itself
            openvino_file.write(onnx.path, info, path)
        else:
            notes = write_graph(form, ExportGraph(self.model, options), info, path)
        runtime = open_runtime(path)
        if runtime.info != info:
            raise InputError(f"{path.name} is not written: its metadata are not what was stored; export it again")
        return Written(path, form, info, prove(runtime, self.model, self.wanted, info), notes)


def write_graph(form: str, graph: ExportGraph, info: GraphInfo, path: Path) -> tuple[str, ...]:
    """Write a graph, unproven; returns notes for the user."""
    if form == "onnx":
        return onnx_file.write(graph, info, path)
    write: Any = torch_files.write_torchscript if form == "torchscript" else torch_files.write_program
    write(graph, info, path)
    return ()
