"""Script: benchmarks on this machine.

python -m reid_accel.bench retrieval --quick
python -m reid_accel.bench train --vs-pil --config configs/market1501.yaml --data.root FOLDER
accelerate launch -m reid_accel.bench train
python -m reid_accel.bench gpu --budget 480 --json gpu.json
accelerate launch --num_processes 8 -m reid_accel.bench gpu
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    """One subcommand per benchmark; each sets `run`, a function of the parsed and the remaining arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m reid_accel.bench", description="Benchmarks on this machine.", allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK")
    _add_retrieval(commands)
    _add_training(commands)
    commands.add_parser("gpu", help="correctness and speed on a GPU; `gpu --help` lists its options", add_help=False)
    return parser


def _add_retrieval(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("retrieval", help="scoring and re-ranking against plain retrieval")
    command.add_argument("--quick", action="store_true", help="small sizes, a few seconds")
    command.add_argument("--device", default="cpu", help="device of the features: cpu, cuda (default: %(default)s)")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    command.set_defaults(takes_settings=False, run=bench_retrieval)


def _add_training(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "train",
        allow_abbrev=False,
        help="whether the device waits for data, the bottleneck, a recommended batch size",
        description="Further flags are train.py's: --config FILE, --data.root FOLDER, --train.batch-size 64, ...",
    )
    command.add_argument("--steps", type=int, default=0, help="optimizer steps per turn (default: about two seconds)")
    command.add_argument("--vs-pil", action="store_true", help="also measure the usual per-image pipeline")
    command.add_argument("--workers", type=int, default=0, help="DataLoader workers of --vs-pil (default: %(default)s)")
    command.add_argument("--vs-plain", action="store_true", help="also measure the network in float32, channels first")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    command.set_defaults(takes_settings=True, run=bench_training)


def bench_retrieval(given: argparse.Namespace, settings: Sequence[str]) -> None:
    """Scoring and re-ranking on generated features."""
    from reid_accel.benchmarks import retrieval

    retrieval.run(quick=given.quick, device=given.device, json_path=given.json)


def bench_training(given: argparse.Namespace, settings: Sequence[str]) -> None:
    """Time training steps with a run's data, network and trainer."""
    from reid_accel.benchmarks import training
    from reid_accel.benchmarks.per_image import per_image_input
    from reid_accel.config.parse import parse
    from reid_accel.config.schema import Config
    from reid_accel.data.open import open_data
    from reid_accel.data.splits import split_training_images
    from reid_accel.distributed.setup import start_accelerator
    from reid_accel.hardware import choose_kernels
    from reid_accel.preflight import DEFAULT_RECIPE
    from reid_accel.reporting.console import open_console
    from reid_accel.training.build import build_model, build_trainer

    config = parse(Config, settings, default_recipe=DEFAULT_RECIPE)
    accelerator = start_accelerator(config.run.mixed_precision, config.train.accumulation_steps, config.run.cpu_threads)
    choose_kernels(deterministic=config.run.deterministic)
    console = open_console(accelerator.is_main_process)
    data = open_data(config.data, config.model, console.print)
    images, _ = split_training_images(data, config.data.validation_share)
    trainer = build_trainer(config, accelerator, build_model(config, images, accelerator), images, console.print)
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one benchmark; a user's mistake is reported as one sentence."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["gpu"]:  # before importing packages that a bare GPU machine may lack
        sys.exit(bench_gpu(words[1:]))
    parser = build_parser()
    given, rest = parser.parse_known_args(words)
    if rest and not given.takes_settings:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")

    from reid_accel.distributed.setup import process_group_scope
    from reid_accel.reporting.console import sentences_for_users

    with process_group_scope(), sentences_for_users():
        given.run(given, rest)


if __name__ == "__main__":
    main()
