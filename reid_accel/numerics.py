"""How exactly the hardware computes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether NVIDIA GPUs may multiply float32 numbers with TF32's ten bits of mantissa; put back afterwards."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32)
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def choose_kernels(*, deterministic: bool) -> None:
    """Only kernels that give the same bits every time, or whichever is fastest for these sizes."""
    torch.backends.cudnn.benchmark = not deterministic  # images have one size: trying kernels out once pays
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
