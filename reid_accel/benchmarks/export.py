"""Speed of exported files: PyTorch, ONNX Runtime and OpenVINO on the processor, side by side.

The engines take turns, so that all see the same machine. Measured is the network alone, from prepared pixels to
features. Legend: B batch, D feature.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from reid_accel.augment.ops import normalize
from reid_accel.config.export import ExportConfig
from reid_accel.errors import InputError, first_line
from reid_accel.export import openvino_file
from reid_accel.export.parity import cosines
from reid_accel.export.runtimes import Runtime, graph_input, open_runtime
from reid_accel.export.write import NAME, export
from reid_accel.files import write_json
from reid_accel.hardware import load_average
from reid_accel.models.outputs import Outputs
from reid_accel.models.reid import ReIDModel, comparable, load_model, on_device
from reid_accel.reporting.provenance import hardware

if TYPE_CHECKING:
    from rich.table import Table

Pixels = torch.Tensor
Engine = Callable[[Pixels], npt.NDArray[np.float32]]

WIDTH = 120
WARM_UP = 3
SLICE_SECONDS = 0.25
LOWEST_COSINE = 0.99


@dataclass(frozen=True)
class Speed:
    """One engine at one batch size."""

    engine: str
    batch_size: int
    images_per_second: float
    """By the median latency."""
    median_ms: float
    p95_ms: float
    lowest_cosine: float
    """To the features of PyTorch eager."""
    num_batches: int


def run(
    model_folder: str,
    *,
    export_folder: Path | None = None,
    batch_sizes: Sequence[int] = (1, 8, 32),
    turns: int = 12,
    compiled: bool = True,
    json_path: Path | None = None,
) -> list[Speed]:
    """Measure every engine and print the table."""
    from reid_accel.reporting.console import PlainConsole

    if turns < 1 or not batch_sizes or min(batch_sizes) < 1:
        raise InputError("--turns and --batch-sizes must be positive")
    console, load = PlainConsole(width=WIDTH), load_average()
    with ExitStack() as held:
        engines = dict(_engines(model_folder, export_folder, Path(held.enter_context(tempfile.TemporaryDirectory()))))
        if not compiled:
            del engines["PyTorch compiled"]
        size = load_model(model_folder).architecture
        rows = []
        for number in batch_sizes:
            console.print(f"measuring batches of {number} ...", style="dim")
            images = torch.rand(
                (number, 3, size.height_px, size.width_px), generator=torch.Generator().manual_seed(number)
            )
            rows += measure(engines, images, turns)
    found = hardware(torch.device("cpu"), 1, "no")
    console.print(_table(rows, f"{found['cpu']}, {found['threads']} threads, load before the run {load:.1f}"))
    if json_path is not None:
        write_json(json_path, [asdict(row) for row in rows])
    return rows


def measure(engines: Mapping[str, Engine], images_B3HW: Pixels, turns: int) -> list[Speed]:
    """Every engine for a slice of time, in turns."""
    found = {name: _warmed_up(engine, images_B3HW) for name, engine in engines.items()}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(turns):
        for name, engine in engines.items():
            seconds[name] += _slice(engine, images_B3HW)
    first = next(iter(found.values()))
    return [
        Speed(
            name,
            len(images_B3HW),
            len(images_B3HW) / statistics.median(taken),
            1000 * statistics.median(taken),
            1000 * float(np.percentile(taken, 95)),
            lowest_cosine(first, found[name]),
            len(taken),
        )
        for name, taken in seconds.items()
    ]


def lowest_cosine(first_BD: npt.NDArray[np.float32], second_BD: npt.NDArray[np.float32]) -> float:
    """The lowest cosine between two features of one image."""
    return float(cosines(first_BD, second_BD).min())


def _warmed_up(engine: Engine, images_B3HW: Pixels) -> npt.NDArray[np.float32]:
    return [engine(images_B3HW) for _ in range(WARM_UP)][-1]


def _slice(engine: Engine, images_B3HW: Pixels) -> list[float]:
    """The seconds of each batch, for at least one of them."""
    taken: list[float] = []
    end = time.perf_counter() + SLICE_SECONDS
    while not taken or time.perf_counter() < end:
        start = time.perf_counter()
        engine(images_B3HW)
        taken.append(time.perf_counter() - start)
    return taken


def _engines(model_folder: str, export_folder: Path | None, scratch: Path) -> Iterator[tuple[str, Engine]]:
    model = on_device(load_model(model_folder), torch.device("cpu"))
    yield "PyTorch eager", _torch_engine(model, model)
    yield "PyTorch compiled", _torch_engine(model, _compiled(model))
    if export_folder is None:
        export_folder = scratch / "export"
        export(model_folder, ExportConfig(to=("onnx", "openvino"), out=str(export_folder)))
    onnx = _file(export_folder / f"{NAME}.onnx")
    yield "ONNX Runtime float32", _file_engine(open_runtime(onnx))
    graph = export_folder / f"{NAME}.xml"
    yield "OpenVINO float32", _file_engine(open_runtime(_file(graph)))
    quantized = export_folder / f"{NAME}-int8.onnx"
    if quantized.is_file():
        runtime = open_runtime(quantized)
        assert runtime.info is not None
        yield "ONNX Runtime int8", _file_engine(runtime)
        openvino_file.write(quantized, runtime.info, scratch / "int8.xml")
        yield "OpenVINO int8", _file_engine(open_runtime(scratch / "int8.xml"))


def _file(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"there is no {path}: `reid-accel export MODEL --to onnx,openvino` writes it")
    return path


def _compiled(model: ReIDModel) -> Callable[[Pixels], Outputs]:
    """The network compiled for each batch size. Raises InputError where there is no compiler."""
    network = torch.compile(model, dynamic=False)

    def run_compiled(images_B3HW: Pixels) -> Outputs:
        try:
            outputs: Outputs = network(images_B3HW)
        except RuntimeError as error:  # the base of what torch.compile raises
            raise InputError(
                f"torch.compile fails here ({first_line(error)}): install a C++ compiler, or use --no-compiled"
            ) from error
        return outputs

    return run_compiled


def _torch_engine(model: ReIDModel, network: Callable[[Pixels], Outputs]) -> Engine:
    size = model.architecture

    @torch.inference_mode()
    def features(images_B3HW: Pixels) -> npt.NDArray[np.float32]:
        outputs = network(normalize(images_B3HW, size.mean, size.std))
        return comparable(outputs.feature_BD, size.metric).numpy()

    return features


def _file_engine(runtime: Runtime) -> Engine:
    info = runtime.info
    assert info is not None, "an export of this package"
    return lambda images_B3HW: runtime.features(graph_input(images_B3HW, info))


def _table(rows: Sequence[Speed], caption: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title="From pixels to features", caption=caption, box=box.SIMPLE_HEAD)
    for name in ("batch", "engine", "images/s", "median ms", "95 % ms", "lowest cosine"):
        table.add_column(name, justify="left" if name == "engine" else "right")
    for row in rows:
        numbers = (f"{row.images_per_second:.1f}", f"{row.median_ms:.1f}", f"{row.p95_ms:.1f}")
        table.add_row(str(row.batch_size), row.engine, *numbers, f"{row.lowest_cosine:.5f}")
    return table
