"""What every part of the benchmark is given, and what the machine is."""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from reid_accel.benchmarks.gpu.rows import LeftOutError
from reid_accel.reporting.provenance import commit


@dataclass(frozen=True)
class Setup:
    """Device, a folder for temporary files, a data set in Market-1501's layout, and when the budget is spent.

    deadline: in `time.monotonic` seconds. On a CPU every part runs on small sizes, to prove that it works.
    """

    device: torch.device
    folder: Path
    data: Path | None = None
    deadline: float = float("inf")

    @property
    def large(self) -> bool:
        """Whether to run at the sizes that are of interest on a GPU."""
        return self.device.type == "cuda"

    @property
    def seconds_left(self) -> float:
        """How much of the budget is left."""
        return self.deadline - time.monotonic()


def missing_device(device: str) -> str | None:
    """Why torch can't use the device, as a sentence; None if it can."""
    if device == "cpu" or torch.cuda.is_available():
        return None
    reason = "torch sees none"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # a driver older than torch's CUDA, or torch without CUDA
        reason = str(error).strip().splitlines()[0]
    return (
        f"there is no CUDA device that torch {torch.__version__} can use ({reason}): try the command with --device cpu"
    )


def machine(device: torch.device) -> dict[str, str]:
    """Card, driver, versions and commit: what the numbers belong to."""
    facts = {"device": _device_name(device)}
    if device.type == "cuda":
        facts["driver"] = _driver()
        facts["memory"] = f"{torch.cuda.get_device_properties(device).total_memory / 2**30:.0f} GiB"
    return {
        **facts,
        "cores": str(len(os.sched_getaffinity(0))),
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
    """Leave a part out on a card that only emulates bf16."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise LeftOutError("this card has no bf16 arithmetic")


def require_memory(device: torch.device, gib: float) -> None:
    """Leave a part out where the device has less free memory than the part needs."""
    if device.type != "cuda":
        return
    free = torch.cuda.mem_get_info(device)[0] / 2**30
    if free < gib:
        raise LeftOutError(f"it needs about {gib:.0f} GiB of device memory, {free:.1f} GiB are free")
