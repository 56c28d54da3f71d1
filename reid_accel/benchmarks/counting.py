"""What a step asks of the hardware, and what the hardware gives: operations and bytes, counted and measured."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


class ByteCounter(TorchDispatchMode):
    """Counts the bytes that operations read and write when none are fused: what eager execution moves at least."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count what it touched; views touch nothing."""
        given = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, given)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return given


def count_work(step: Callable[[], object]) -> tuple[int, int]:
    """(floating point operations, bytes) of one call; a multiply-add counts as two operations."""
    with FlopCounterMode(display=False) as operations:
        step()
    with ByteCounter() as traffic:
        step()
    return operations.get_total_flops(), traffic.bytes


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating point operations a second of a large matrix product: what this machine reaches when nothing else slows
    it down."""
    size = 8192 if device.type == "cuda" else 2048
    one = torch.randn(size, size, device=device).to(dtype)
    return 2 * size**3 / _best_seconds(lambda: one @ one, device)


def copy_rate(device: torch.device) -> float:
    """Bytes a second that a large copy reads and writes."""
    source = torch.zeros((1 << 30 if device.type == "cuda" else 1 << 28) // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best_seconds(lambda: target.copy_(source), device)


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _best_seconds(work: Callable[[], object], device: torch.device, turns: int = 5) -> float:
    taken = []
    for _ in range(turns):
        synchronize(device)
        begun = time.perf_counter()
        work()
        synchronize(device)
        taken.append(time.perf_counter() - begun)
    return min(taken)
