"""The check that weights are numbers."""

from collections.abc import Mapping

from torch import Tensor

from reid_accel.errors import InputError, listed


def require_finite(weights: Mapping[str, Tensor], origin: str, remedy: str) -> None:
    """Raise InputError, which ends with the remedy, if any weight is NaN or infinite."""
    broken = [name for name, value in weights.items() if not bool(value.isfinite().all())]
    if broken:
        raise InputError(
            f"{origin}: {len(broken)} of {len(weights)} tensors hold NaN or infinity ({listed(broken, 3, 200)}): the "
            f"weights are of a failed training or a damaged file, {remedy}"
        )
