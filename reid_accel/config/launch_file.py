"""Checks of a launch file (`accelerate config`'s answers) before Accelerate reads it. No torch here."""

from pathlib import Path
from typing import Any

import yaml

from reid_accel.config.yaml_text import read_yaml
from reid_accel.errors import InputError
from reid_accel.files import read_bytes

_KINDS = {
    "DEEPSPEED": "DeepSpeed, which this package doesn't use; to shard weights, use --run.shard-weights",
    "FSDP": "Accelerate's FSDP, which this package doesn't use; to shard weights, use --run.shard-weights",
    "MEGATRON_LM": "Megatron-LM, which this package doesn't use; to shard weights, use --run.shard-weights",
    "MULTI_CPU": "MULTI_CPU, for which accelerate starts a single process; use launch/cpu_2_processes.yaml",
    "XLA": "TPUs, which this package doesn't support",
    "TPU": "TPUs, which this package doesn't support",
}


def check_launch_file(path: Path) -> None:
    """Raise InputError for a file that can't start a run, or asks for what a run doesn't do."""
    content = read_yaml(path)
    if not isinstance(content, dict) or "distributed_type" not in content:
        raise InputError(
            f"{path} is not a launch file: it must hold distributed_type and further answers of the launcher"
        )
    _check_quotes(path)
    kind = str(content["distributed_type"]).upper()
    if kind in _KINDS:
        raise InputError(f"the launch file {path} asks for {_KINDS[kind]}")
    if content.get("compute_environment", "LOCAL_MACHINE") != "LOCAL_MACHINE":
        raise InputError(f"the launch file {path} is for {content['compute_environment']}, not for this machine")
    if content.get("mpirun_config"):
        raise InputError(f"the launch file {path} asks for mpirun: start the processes with --nproc or torchrun")
    if (content.get("mixed_precision") or "no").lower() not in ("no", "fp16", "bf16"):
        raise InputError(f"{path}: mixed_precision must be no, fp16 or bf16, got {content['mixed_precision']!r}")
    for name in ("num_processes", "num_machines"):
        number = content.get(name, "1")
        if not (isinstance(number, str) and number.isdecimal() and int(number) > 0):
            raise InputError(f"{path}: {name} must be a number, 1 or more, got {number!r}")


def _check_quotes(path: Path) -> None:
    """Accelerate can't use the false that YAML makes of an unquoted no."""
    content: dict[str, Any] = yaml.safe_load(read_bytes(path))
    for name in ("distributed_type", "mixed_precision", "dynamo_backend"):
        if isinstance(content.get(name), bool):
            raise InputError(f'{path}: write {name}: "no" with quotes, since YAML reads an unquoted no as false')
