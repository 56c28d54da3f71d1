"""What launchers and job scripts put into the environment, and what a run makes of it. No torch here.

The settings of a run win over the environment, which may decide three things: the device, the number of processes, and
the precision if that is `auto`. What would change anything else is refused, or is not used and said so.
"""

import os
from collections.abc import Iterator

from reid_accel.config.schema import Config
from reid_accel.errors import InputError

_YES, _NO = ("1", "true", "t", "yes", "y", "on"), ("", "0", "false", "f", "no", "n", "off")
_REFUSED = {
    "ACCELERATE_USE_DEEPSPEED": ("DeepSpeed", "to shard weights and optimizer state, use --run.shard-weights"),
    "ACCELERATE_USE_FSDP": ("Accelerate's FSDP", "to shard weights, use --run.shard-weights"),
    "ACCELERATE_USE_MEGATRON_LM": ("Megatron-LM", "to shard weights, use --run.shard-weights"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": ("Accelerate's tensor and context parallelism", "remove parallelism_config"),
    "ACCELERATE_USE_SAGEMAKER": ("SageMaker's data parallelism", "start the processes with torchrun"),
}
_FLAGS = ("ACCELERATE_USE_CPU", "ACCELERATE_DEBUG_MODE", "ACCELERATE_CPU_AFFINITY", "FORK_LAUNCHED")
_NUMBERS = (
    *("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "MASTER_PORT"),
    *("TORCHELASTIC_RESTART_COUNT", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"),
)
_DEVICES = ("cpu", "cuda", "mps", "xpu")


def flag(name: str) -> bool:
    """Whether a variable is on, as Accelerate reads it. Raises InputError for a value that is neither on nor off."""
    value = os.environ.get(name, "").strip().lower()
    if value not in _YES + _NO:
        raise InputError(f"the environment variable {name} must be true or false, got {value!r}: set or unset it")
    return value in _YES


def number(name: str, default: int) -> int:
    """A variable that holds an integer. Raises InputError for anything else."""
    value = os.environ.get(name)
    try:
        return default if value is None else int(value)
    except ValueError:
        raise InputError(
            f"the environment variable {name} must be an integer, got {value!r}: set or unset it"
        ) from None


def launcher_precision() -> str | None:
    """The precision that a launcher asks for; None for `no`, which launchers also say when nobody chose."""
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if asked in ("fp16", "bf16"):
        return asked
    if asked in ("no", ""):
        return None
    raise InputError(
        f"the launcher asks for precision {asked}, which this package doesn't have: choose no, fp16 or bf16 in the "
        "launch file (mixed_precision), or set --run.mixed-precision, which wins over the launcher's"
    )


def check_environment() -> None:
    """Raise InputError for what a run can't be started with; the sentence names the variable."""
    for name, (what, instead) in _REFUSED.items():
        if flag(name):
            raise InputError(
                f"the launch file or environment enables {what} ({name}), which this package doesn't use: start with "
                f"launch/multi_gpu.yaml or another file of launch/ instead, or unset the variable; {instead}"
            )
    fp8 = os.environ.get("ACCELERATE_FP8_BACKEND", "no")
    if fp8.lower() not in ("", "no"):  # Accelerate would convert layers, whatever the precision is
        raise InputError(
            f"the launch file or environment enables 8-bit training (ACCELERATE_FP8_BACKEND={fp8}), which this package "
            "doesn't have: remove fp8_config from the launch file, or unset the variable"
        )
    for name in _FLAGS:
        flag(name)
        _require_a_value(name)
    for name in _NUMBERS:
        number(name, 0)
    _check_device()
    _check_mpi()


def _require_a_value(name: str) -> None:
    """Accelerate can't read an empty flag."""
    if name in os.environ and not os.environ[name].strip():
        raise InputError(f"the environment variable {name} is set but empty: set it to true or false, or unset it")


def _check_device() -> None:
    device = os.environ.get("ACCELERATE_TORCH_DEVICE")
    if device is None:
        return
    kind, colon, index = device.partition(":")
    if kind not in _DEVICES or (colon and not index.isdecimal()):
        raise InputError(
            f"ACCELERATE_TORCH_DEVICE must be one of {', '.join(_DEVICES)}, with or without :NUMBER, got {device!r}: "
            "set or unset it"
        )
    if number("WORLD_SIZE", 1) > 1:
        raise InputError(
            f"ACCELERATE_TORCH_DEVICE={device} puts all processes on one device: unset it, and choose GPUs with "
            "gpu_ids in the launch file or with CUDA_VISIBLE_DEVICES"
        )


def _check_mpi() -> None:
    """Accelerate would connect the processes of mpirun, but only where it computes on the CPU."""
    sizes = [name for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE") if number(name, 1) > 1]
    if sizes and "WORLD_SIZE" not in os.environ and flag("ACCELERATE_USE_CPU"):
        raise InputError(
            f"mpirun has started {os.environ[sizes[0]]} processes ({sizes[0]}), which this package doesn't connect: "
            "start them with `accelerate launch --config_file launch/cpu_2_processes.yaml`, torchrun or --nproc"
        )


def ignored_settings(config: Config) -> Iterator[str]:
    """A sentence for each setting of a launcher that this run doesn't use, because its own wins."""
    values = {name: os.environ.get(name, "") for name in _OWN_SETTINGS}
    own = {
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": str(config.train.accumulation_steps),
        "ACCELERATE_GRADIENT_CLIPPING": str(config.optim.clip_norm),
        "ACCELERATE_DYNAMO_BACKEND": "no",
        "ACCELERATE_MIXED_PRECISION": config.run.mixed_precision,
    }
    for name, setting in _OWN_SETTINGS.items():
        asked, has = values[name].lower(), own[name]
        if asked in ("", "no", has) or has == "auto":
            continue
        yield f"the launcher's {name}={values[name]} is not used: the run's own setting, {setting}, wins"
    if "MASTER_ADDR" in os.environ and not {"RANK", "LOCAL_RANK", "WORLD_SIZE"} & set(os.environ):
        yield (
            "one process computes, although the launcher may have been asked for several (MASTER_ADDR is set, "
            "WORLD_SIZE isn't): on a CPU, several are started with launch/cpu_2_processes.yaml or --nproc"
        )


_OWN_SETTINGS = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "--train.accumulation-steps",
    "ACCELERATE_GRADIENT_CLIPPING": "--optim.clip-norm",
    "ACCELERATE_DYNAMO_BACKEND": "--run.compile",
    "ACCELERATE_MIXED_PRECISION": "--run.mixed-precision",
}
