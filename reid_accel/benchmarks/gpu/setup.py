"""The inputs of every part of the benchmark, and a description of the machine."""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from reid_accel.benchmarks.gpu.rows import LeftOutError
from reid_accel.hardware import num_cores
from reid_accel.reporting.provenance import commit


@dataclass(frozen=True)
class Setup:
    """Device, a folder for temporary files, a data set in Market-1501's layout, and the end of the budget.

    deadline: in `time.monotonic` seconds. On a CPU every part runs at small sizes, to test that it works.
    """

    device: torch.device
    folder: Path
    data: Path | None = None
    deadline: float = float("inf")

    @property
    def large(self) -> bool:
        """Whether to run at sizes for a GPU."""
        return self.device.type == "cuda"

    @property
    def seconds_left(self) -> float:
        """How much of the budget is left."""
        return self.deadline - time.monotonic()


def missing_device(device: str) -> str | None:
    """An error message if torch can't use the device, else None."""
    if device == "cpu" or torch.cuda.is_available():
        return None
    reason = "none is visible"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # a driver older than torch's CUDA, or torch without CUDA
        reason = str(error).strip().splitlines()[0]
    return f"torch {torch.__version__} found no usable CUDA device ({reason}): try the command with --device cpu"


def machine(device: torch.device) -> dict[str, str]:
    """GPU, driver, versions and commit."""
    facts = {"device": _device_name(device)}
    if device.type == "cuda":
        facts["driver"] = _driver()
        facts["memory"] = f"{torch.cuda.get_device_properties(device).total_memory / 2**30:.0f} GiB"
    return {
        **facts,
        "cores": str(num_cores()),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": os.environ.get("REID_ACCEL_COMMIT") or commit() or "unknown",
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"


def _driver() -> str:
    path = Path("/proc/driver/nvidia/version")
    try:
        words = path.read_text(encoding="utf-8").splitlines()[0].split()
    except (OSError, IndexError):
        return "unknown"
    return next((word for word in words if word[:1].isdigit() and word.count(".") > 0), "unknown")


def require_bf16(device: torch.device) -> None:
    """Raise LeftOutError on a GPU that only emulates bf16."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise LeftOutError("this GPU has no bf16 arithmetic")


def require_memory(device: torch.device, gib: float) -> None:
    """Raise LeftOutError where the device has less free memory than the part needs."""
    if device.type != "cuda":
        return
    free = torch.cuda.mem_get_info(device)[0] / 2**30
    if free < gib:
        raise LeftOutError(f"it needs about {gib:.0f} GiB of device memory, {free:.1f} GiB are free")
