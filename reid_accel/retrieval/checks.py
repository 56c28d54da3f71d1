"""Turning what a caller passes into clean arrays, or into one sentence about what is wrong with it."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reid_accel.errors import InputError

Features = torch.Tensor | npt.NDArray[Any]
"""A matrix of features, one row per image: float32, float16 or bfloat16 (float64 is rounded to float32)."""

Labels = torch.Tensor | npt.NDArray[Any] | Sequence[int]
"""One whole number per image."""

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def as_features(name: str, features: Features) -> torch.Tensor:
    """`features` as a detached floating-point tensor [N, D] with D > 0; contiguous arrays aren't copied."""
    tensor = features.detach() if isinstance(features, torch.Tensor) else _from_numpy(name, np.asarray(features))
    if tensor.ndim != 2:
        raise InputError(f"{name} must be a matrix with one row per image, got shape {tuple(tensor.shape)}")
    if not tensor.is_floating_point():
        raise InputError(f"{name} must be floating-point numbers, got {tensor.dtype}")
    if tensor.shape[1] == 0:
        raise InputError(f"{name} has dimension 0: there is nothing to compare")
    return tensor


def _from_numpy(name: str, array: npt.NDArray[Any]) -> torch.Tensor:
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{name} must be floating-point numbers, got {array.dtype}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")  # nothing here writes into it
        return torch.from_numpy(np.ascontiguousarray(array))


def check_pair(query_QD: torch.Tensor, gallery_GD: torch.Tensor) -> None:
    """Refuse two feature sets that cannot be compared with each other."""
    if query_QD.shape[1] != gallery_GD.shape[1]:
        raise InputError(
            f"query_features have dimension {query_QD.shape[1]}, gallery_features {gallery_GD.shape[1]}: "
            "both must come from the same model"
        )
    if query_QD.device != gallery_GD.device:
        raise InputError(
            f"query_features are on {query_QD.device}, gallery_features on {gallery_GD.device}: move one of them"
        )
    if query_QD.shape[0] == 0:
        raise InputError("query_features has no rows: there is nothing to search for")


def as_labels(name: str, labels: Labels, num_rows: int, features_name: str) -> Int64Array:
    """`labels` as int64 [num_rows]."""
    array = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if array.ndim != 1 or len(array) != num_rows:
        raise InputError(f"{name} has shape {array.shape}, but {features_name} has {num_rows} rows")
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{name} must be whole numbers, got {array.dtype}")
    return array.astype(np.int64)


def as_optional_labels(name: str, labels: Labels | None, num_rows: int, features_name: str) -> Int64Array | None:
    """`as_labels`, or None for None."""
    return None if labels is None else as_labels(name, labels, num_rows, features_name)


def check_k(k: int, num_gallery: int, name: str = "k") -> None:
    """Refuse more neighbors than the gallery has rows."""
    check_positive(name, k)
    if num_gallery == 0:
        raise InputError("the gallery is empty: there is nothing to rank")
    if k > num_gallery:
        raise InputError(f"{name} must be at most the gallery's {num_gallery} rows, got {k}")


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is none of the allowed words."""
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_positive(name: str, value: int) -> None:
    """Refuse anything but a whole number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} must be a whole number above 0, got {value!r}")


def check_finite_rows(
    name: str, feature_ND: torch.Tensor, square_N: torch.Tensor, first_row: int, largest_square: float
) -> None:
    """Name the first row that holds NaN or infinity, or is too large for float32 (its square sum says so)."""
    good_N = square_N <= largest_square  # False for NaN too
    if bool(good_N.all()):
        return
    row = int(torch.nonzero(~good_N)[0])
    if bool(torch.isfinite(feature_ND[row].float()).all()):
        raise InputError(f"{name} row {first_row + row} is too large: its squared length overflows float32")
    raise InputError(f"{name} row {first_row + row} holds NaN or infinity; the model or its input is broken")
