"""Work of a training step (operations, bytes, host-device synchronizations) and peak rates of the hardware."""

import resource
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


class ByteCounter(TorchDispatchMode):
    """Counts the bytes that operations read and write without fusion: a lower bound for eager execution."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count the bytes of its tensors; views count as 0."""
        given = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, given)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return given


WAITING_OPERATIONS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "bincount")
WAITING_CALLS = ("tolist", "numpy", "cpu", "tensor", "as_tensor")
"""Operations and calls that synchronize with a GPU: they read sizes or values from it, or copy constants to it."""


@contextmanager
def host_reads(device: torch.device) -> Iterator[Counter[str]]:
    """Counts host-device synchronizations by name while the block runs.

    On a GPU, torch reports them. On the CPU, operations and calls that would synchronize with a GPU are counted.
    """
    counts: Counter[str] = Counter()
    if device.type != "cuda":
        with _CallCounter(counts), _OperationCounter(counts):
            yield counts
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield counts
    finally:
        torch.cuda.set_sync_debug_mode(before)
    waits = [warning for warning in caught if "synchronizing" in str(warning.message)]
    counts.update(f"{warning.filename.rpartition('/')[2]}:{warning.lineno}" for warning in waits)


class _OperationCounter(TorchDispatchMode):
    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        masks = name.startswith("index") and any(
            isinstance(leaf, Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1:2])
        )
        if masks or name in WAITING_OPERATIONS:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


class _CallCounter(TorchFunctionMode):
    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in WAITING_CALLS:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def count_work(step: Callable[[], object]) -> tuple[int, int]:
    """(floating point operations, bytes) of one call; a multiply-add counts as two operations."""
    with FlopCounterMode(display=False) as operations:
        step()
    with ByteCounter() as traffic:
        step()
    return operations.get_total_flops(), traffic.bytes


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating point operations per second of a large matrix product."""
    size = 8192 if device.type == "cuda" else 2048
    one = torch.randn(size, size, device=device).to(dtype)
    return 2 * size**3 / _best_seconds(lambda: one @ one, device)


def copy_rate(device: torch.device) -> float:
    """Bytes per second that a large copy reads and writes."""
    source = torch.zeros((1 << 30 if device.type == "cuda" else 1 << 28) // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best_seconds(lambda: target.copy_(source), device)


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_mib(device: torch.device) -> float:
    """Peak memory: torch's allocations on a GPU, the process's resident memory on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _best_seconds(work: Callable[[], object], device: torch.device, turns: int = 5) -> float:
    taken = []
    for _ in range(turns):
        synchronize(device)
        begun = time.perf_counter()
        work()
        synchronize(device)
        taken.append(time.perf_counter() - begun)
    return min(taken)
