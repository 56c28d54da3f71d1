"""Script: benchmarks on this machine.

python -m reid_accel.bench retrieval --quick
python -m reid_accel.bench train --vs-pil --config configs/market1501.yaml --data.root FOLDER
accelerate launch -m reid_accel.bench train
python -m reid_accel.bench listing --files 200000
python -m reid_accel.bench export --model RUN/model --export RUN/export
python -m reid_accel.bench gpu --budget 480 --json gpu.json
accelerate launch --num_processes 8 -m reid_accel.bench gpu
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reid_accel.terminal import open_output, visible

if TYPE_CHECKING:
    from reid_accel.distributed.watchdog import Watchdog


@dataclass(frozen=True, kw_only=True)
class RetrievalBench:
    """Scoring and re-ranking against plain retrieval, on generated features."""

    quick: bool = False
    """Small sizes, a few seconds."""
    device: str = "cpu"
    """Device of the features: cpu, cuda."""
    json: Path | None = None
    """File for the results as JSON."""


@dataclass(frozen=True, kw_only=True)
class TrainingBench:
    """Whether the device waits for data, the bottleneck, a recommended batch size. Takes train.py's flags, too."""

    steps: int = 0
    """Optimizer steps per turn; 0: about two seconds."""
    vs_pil: bool = False
    """Measure the usual per-image pipeline, too."""
    workers: int = 0
    """DataLoader workers of --vs-pil."""
    vs_plain: bool = False
    """Measure the network in float32 and channels first, too."""
    json: Path | None = None
    """File for the results as JSON."""


@dataclass(frozen=True, kw_only=True)
class ListingBench:
    """Listing, checks, fingerprint and crop store of a large made set, which is removed afterwards."""

    files: int = 200_000
    """Images of the set: hard links to few files."""
    folder: Path | None = None
    """Where the set is made, such as a folder of a file server. Default: the system's temporary folder."""
    store_files: int = 10_000
    """Images to decode into the crop store (24,576 bytes each)."""
    json: Path | None = None
    """File for the results as JSON."""


@dataclass(frozen=True, kw_only=True)
class ExportBench:
    """Speed of a model in PyTorch, ONNX Runtime and OpenVINO on the processor, in turns."""

    model: str
    """Model folder (RUN/model) or hub repository (user/name)."""
    export: Path | None = None
    """Folder of its export to onnx,openvino, with model-int8.onnx if that is to be measured; unset: exported anew."""
    batch_sizes: tuple[int, ...] = (1, 8, 32)
    """Images per batch."""
    turns: int = 12
    """Turns of a quarter second for each engine."""
    compiled: bool = True
    """Measure torch.compile, too, which takes a minute per batch size and needs a C++ compiler."""
    threads: int = 0
    """Threads of each engine; 0: all cores."""
    json: Path | None = None
    """File for the results as JSON."""


def bench_listing(arguments: Sequence[str]) -> None:
    """The work between a folder and the first batch."""
    import tyro

    given = tyro.cli(ListingBench, args=arguments, prog="bench listing")

    from reid_accel.benchmarks import listing

    listing.run(given.files, given.folder, min(given.store_files, given.files), given.json)


def bench_export(arguments: Sequence[str]) -> None:
    """Speed of exported files."""
    import tyro

    given = tyro.cli(ExportBench, args=arguments, prog="bench export")

    import torch

    from reid_accel.benchmarks import export
    from reid_accel.hardware import cpu_threads

    torch.set_num_threads(cpu_threads(given.threads))
    export.run(
        given.model,
        export_folder=given.export,
        batch_sizes=given.batch_sizes,
        turns=given.turns,
        compiled=given.compiled,
        json_path=given.json,
    )


def bench_retrieval(arguments: Sequence[str]) -> None:
    """Scoring and re-ranking on generated features."""
    import tyro

    given = tyro.cli(RetrievalBench, args=arguments, prog="bench retrieval")

    from reid_accel.benchmarks import retrieval

    retrieval.run(quick=given.quick, device=given.device, json_path=given.json)


def bench_training(arguments: Sequence[str], watchdog: "Watchdog") -> None:
    """Time training steps with a run's data, network and trainer."""
    import tyro

    given, settings = tyro.cli(TrainingBench, args=arguments, prog="bench train", return_unknown_args=True)

    from reid_accel.benchmarks import training
    from reid_accel.benchmarks.per_image import per_image_input
    from reid_accel.config.parse import parse
    from reid_accel.config.recipes import DEFAULT_RECIPE
    from reid_accel.config.schema import Config
    from reid_accel.data.open import open_data
    from reid_accel.data.splits import split_training_images
    from reid_accel.distributed.setup import start_accelerator
    from reid_accel.hardware import choose_kernels, choose_precision
    from reid_accel.reporting.console import open_console
    from reid_accel.training.build import build_model, build_trainer

    config = parse(Config, settings, default_recipe=DEFAULT_RECIPE)
    precision = choose_precision(config.run.mixed_precision, config.model.width_px)
    accelerator = start_accelerator(precision, config.train.accumulation_steps, config.run.cpu_threads, watchdog)
    choose_kernels(deterministic=config.run.deterministic)
    console = open_console(accelerator.is_main_process, config.run.log_level)
    data = open_data(config.data, config.model)
    images, _ = split_training_images(data, config.data.validation_share)
    trainer = build_trainer(config, accelerator, build_model(config, images, accelerator), images)
    per_image = None
    if given.vs_pil:
        per_image = per_image_input(images, config, accelerator.device, given.workers)
    training.run(trainer, console, steps=given.steps, per_image=per_image, plain=given.vs_plain, json_path=given.json)


def bench_gpu(arguments: Sequence[str]) -> int:
    """Correctness and speed on a GPU; returns the exit code."""
    from reid_accel.benchmarks.gpu.runner import main as measure
    from reid_accel.distributed.setup import process_group_scope

    with process_group_scope():
        return measure(arguments)


USAGE = """usage: bench {retrieval,train,export,listing,gpu} ...

retrieval  scoring and re-ranking against plain retrieval
train      whether the device waits for data, the bottleneck, a recommended batch size
listing    listing, checks, fingerprint and crop store of a large made set
export     a model in PyTorch, ONNX Runtime and OpenVINO, side by side
gpu        correctness and speed on a GPU

`bench NAME --help` lists the options of a benchmark."""


ON_ANY_MACHINE = ("retrieval", "train", "export", "listing")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one benchmark; a user's mistake is reported as one sentence."""
    open_output()
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = words[0] if words else ""
    if name in (*ON_ANY_MACHINE, "gpu") and not Path("/proc/self/statm").exists():
        print("the benchmarks need Linux, which tells how much memory a process uses", file=sys.stderr)
        sys.exit(2)
    if name == "gpu":  # before importing packages that a bare GPU machine may lack
        sys.exit(bench_gpu(words[1:]))
    if name not in ON_ANY_MACHINE:
        is_help = name in ("-h", "--help")
        usage = USAGE if is_help else visible(f"there is no benchmark {name}\n{USAGE}")
        print(usage, file=sys.stdout if is_help else sys.stderr)
        sys.exit(0 if is_help else 2)

    from reid_accel.distributed.setup import process_group_scope
    from reid_accel.reporting.console import sentences_for_users

    with process_group_scope() as watchdog, sentences_for_users():
        if name == "train":
            bench_training(words[1:], watchdog)
        elif name == "listing":
            bench_listing(words[1:])
        elif name == "export":
            bench_export(words[1:])
        else:
            bench_retrieval(words[1:])


if __name__ == "__main__":
    main()
