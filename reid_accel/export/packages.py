"""The packages that only exports need, imported when they are used."""

import importlib
from types import ModuleType

from reid_accel.errors import InputError

NEEDED = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torchscript": (),
    "torch-export": (),
}
"""The packages that write and prove a format."""


def package(name: str, purpose: str) -> ModuleType:
    """An optional package's module. Raises InputError, which says how to install it, where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name == name.partition(".")[0]
        problem = (
            f"the package {name}, which is not installed" if missing else f"{name}, which cannot be loaded ({error})"
        )
        raise InputError(f"{purpose} needs {problem}: pip install 'reid_accel[export]'") from error


def check_packages(formats: tuple[str, ...]) -> None:
    """Raise InputError unless what the formats need can be imported."""
    for form in formats:
        for name in NEEDED[form]:
            package(name, f"--to {form}")
