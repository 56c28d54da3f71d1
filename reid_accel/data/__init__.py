"""From image files to a batch on the training device.

>>> from reid_accel.data import load
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_accel.data.tables import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Import `load` on first use, since only `load` needs the `datasets` library."""
    if name != "load":
        raise AttributeError(f"module 'reid_accel.data' has no attribute {name!r}")
    from reid_accel.data.tables import load

    return load
