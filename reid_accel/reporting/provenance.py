"""Provenance of a report: software versions and hardware."""

import functools
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from reid_accel.hardware import num_cores
from reid_accel.reporting.schema import Hardware, SoftwareVersions
from reid_accel.version import __version__


@functools.cache
def software() -> SoftwareVersions:
    """Versions that results depend on, and the commit if this is a checkout.

    Cached, since the checkout may change during a run.
    """
    return {
        "reid_accel": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "accelerate": version("accelerate"),
        "timm": version("timm"),
        "commit": commit(),
    }


def commit() -> str | None:
    """The checkout's commit, marked `-dirty` if files were changed; None outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():  # installed, perhaps inside another project's checkout
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=10"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def hardware(device: torch.device, processes: int, mixed_precision: str) -> Hardware:
    """The hardware that times were measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "device": name,
        "processes": processes,
        "mixed_precision": mixed_precision,
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    cores = num_cores()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {cores} cores"
