"""Hardware settings: precision, threads, kernels, compilation."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn as nn

from reid_accel.config.environment import flag, launcher_precision, number
from reid_accel.errors import first_line

CPU_BF16_WIDTH_PX = 64
"""Narrower images give NaN gradients in bf16 on CPUs: oneDNN's backward pass of convolutions with stride 2 is wrong for
maps that are 1 or 2 pixels wide."""

logger = logging.getLogger(__name__)


def cpu_threads(asked: int) -> int:
    """CPU threads: as requested; for 0 this process's share of the available cores.

    `accelerate launch` sets OMP_NUM_THREADS to 1 if it is unset, which would leave the other cores idle; any other
    value was set by the user and is kept.
    """
    if asked:
        return asked
    wished = os.environ.get("OMP_NUM_THREADS", "1")
    if wished != "1":
        return torch.get_num_threads()
    return max(1, num_cores() // max(1, number("LOCAL_WORLD_SIZE", 1)))


def num_cores() -> int:
    """Cores that this process may use; all of them where the system can't say (macOS, Windows)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def exact_float(device: torch.device) -> torch.dtype:
    """float64, or float32 on devices that have no float64 (Apple's MPS, some XPUs)."""
    return torch.float64 if device.type in ("cpu", "cuda") else torch.float32


def load_average() -> float:
    """Processes that wanted a core in the last minute; 0 where the system doesn't count them (Windows)."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def choose_precision(asked: str, image_width_px: int) -> str:
    """The training precision: as requested; for "auto" the launcher's setting, else what the hardware supports.

    bf16 needs a GPU with bf16 arithmetic, or a CPU with AVX512-BF16 or AMX and images of `CPU_BF16_WIDTH_PX`;
    elsewhere it would be emulated.
    """
    if asked != "auto":
        return asked
    launcher = launcher_precision()
    if launcher is not None:
        return launcher
    device = _accelerates_device()
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if device == "cpu" and image_width_px >= CPU_BF16_WIDTH_PX and _cpu_computes_bf16() else "no"


def _accelerates_device() -> str:
    """The kind of device that Accelerate will choose."""
    if flag("ACCELERATE_USE_CPU"):
        return "cpu"
    asked = os.environ.get("ACCELERATE_TORCH_DEVICE")
    if asked is not None:
        return asked.partition(":")[0]
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if found is None else found.type


def _cpu_computes_bf16() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:  # not Linux
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def compile_if_possible(model: nn.Module, device: torch.device) -> bool:
    """Compile a network in place (parameters keep their names), after it was wrapped for several processes.

    A one-layer network tests whether the machine can compile; if not, a warning is logged and the model is unchanged.
    """
    probe = nn.Linear(4, 4).to(device)
    probe.compile()
    try:
        probe(torch.ones(2, 4, device=device)).sum().backward()
    except (RuntimeError, OSError) as error:  # whatever is missing: a compiler, its headers, triton
        logger.warning(
            f"torch.compile doesn't work on this machine ({first_line(error)}): training continues without it"
        )
        return False
    finally:
        torch.compiler.reset()
    model.compile()
    return True


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in float32 products on NVIDIA GPUs; the previous setting is restored afterwards."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32)
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def choose_kernels(*, deterministic: bool) -> None:
    """Use deterministic kernels only, or the fastest for these sizes."""
    torch.backends.cudnn.benchmark = not deterministic  # images have one size, so benchmarking once pays off
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
