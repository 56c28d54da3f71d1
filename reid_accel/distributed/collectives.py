"""Collectives between the processes of a run, as methods of their group.

Legend: B rows of this process, W processes, D feature.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.nn as nn
from torch import Tensor

from reid_accel.errors import InputError

Result = TypeVar("Result")

MAX_ERROR_BYTES = 1000


@dataclass(frozen=True)
class Group:
    """A group of processes. Every process of the group must call each method, in the same order. With one process
    nothing is exchanged or copied.
    """

    rank: int = 0
    size: int = 1
    process_group: dist.ProcessGroup | None = None
    """None: torch's default group."""

    @classmethod
    def of(cls, process_group: dist.ProcessGroup | None = None) -> "Group":
        """A process group of torch.distributed; by default all processes of the run."""
        if not (dist.is_available() and dist.is_initialized()):
            return ALONE
        return cls(dist.get_rank(process_group), dist.get_world_size(process_group), process_group)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size == 1:
            return tensor
        total = tensor.detach().to(self._device(tensor), copy=True)
        dist.all_reduce(total, group=self.process_group)
        return total.to(tensor.device)

    def all_gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, which must have equal shapes, stacked by rank [W, ...]."""
        if self.size == 1:
            return tensor[None]
        own = tensor.detach().to(self._device(tensor)).contiguous()
        gathered_W = own.new_empty((self.size, *own.shape))
        dist.all_gather(list(gathered_W), own, group=self.process_group)
        return gathered_W.to(tensor.device)

    def all_gather_rows(self, tensor: Tensor) -> Tensor:
        """The rows of all processes in rank order; their number may differ between processes."""
        if self.size == 1:
            return tensor
        padded, count_W = self._padded(tensor)
        return torch.cat([part[:count] for part, count in zip(self.all_gather(padded), count_W, strict=True)])

    def gather_rows(self, tensor: Tensor) -> Tensor | None:
        """Like `all_gather_rows`, for rank 0 only; the others get None."""
        if self.size == 1:
            return tensor
        padded, count_W = self._padded(tensor)
        own = padded.to(self._device(tensor))
        received = [torch.empty_like(own) for _ in count_W] if self.is_main else None
        dist.gather(own, received, group=self.process_group, group_dst=0)
        if received is None:
            return None
        return torch.cat([part[:count].to(tensor.device) for part, count in zip(received, count_W, strict=True)])

    def all_gather_with_grad(self, feature_BD: Tensor) -> Tensor:
        """The features of all processes in rank order, with gradients for this process's rows.

        For a loss over the gathered batch that every process computes identically. Its gradient is the sum over
        processes of dLoss / d(own rows) * d(own rows) / d(parameters); each process computes its own term and treats
        the other rows as constants. Data-parallel training averages these terms instead of adding them, so the gradient
        of own rows is multiplied by W: the average then equals the gradient of one process on the full batch. Every
        process must have the same number of rows.
        """
        if self.size == 1:
            return feature_BD
        constant_BD = feature_BD.detach()
        constant_WBD = self.all_gather(constant_BD)
        # the value of the features and W times their gradient
        own_BD = constant_BD + self.size * (feature_BD - constant_BD)
        return torch.cat([*constant_WBD[: self.rank], own_BD, *constant_WBD[self.rank + 1 :]])

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag is true if it is true on at least one process."""
        votes = self.all_reduce(torch.tensor(flags, dtype=torch.float32))
        return tuple(bool(vote > 0) for vote in votes.tolist())

    def broadcast_int(self, number: int) -> int:
        """Rank 0's number."""
        return int(self.all_reduce(torch.tensor(number if self.is_main else 0)))

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Give all processes rank 0's buffers, such as the statistics of batch norm."""
        for buffer in model.buffers() if self.size > 1 else ():
            dist.broadcast(buffer, group=self.process_group, group_src=0)

    def together(self, work: Callable[[], Result]) -> Result:
        """Run work that may fail on some processes only; if one raises InputError, all do.

        Every process must call it.
        """
        try:
            result = work()
        except InputError as error:
            self._share_error(str(error))
            raise
        self._share_error("")
        return result

    def _share_error(self, message: str) -> None:
        """Send a message ("": no error); raises InputError if only other processes have one."""
        if self.size == 1:
            return
        text = message.encode()[:MAX_ERROR_BYTES]
        padded = torch.zeros(MAX_ERROR_BYTES, dtype=torch.uint8)
        padded[: len(text)] = torch.tensor(list(text), dtype=torch.uint8)
        for rank, received in enumerate(self.all_gather(padded)):
            if not message and bool(received.any()):
                error = received.numpy().tobytes().rstrip(b"\0").decode(errors="replace")
                raise InputError(f"on rank {rank}: {error}")

    def _padded(self, tensor: Tensor) -> tuple[Tensor, list[int]]:
        """The tensor padded to the largest number of rows in the group, and the number of rows of each process."""
        count_W = self.all_gather(torch.tensor(len(tensor))).tolist()
        padded = tensor.new_zeros((max(count_W), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        return padded, count_W

    def _device(self, tensor: Tensor) -> torch.device:
        """The device that a tensor must be on to be sent: NCCL requires a GPU."""
        on_gpu = "nccl" in dist.get_backend(self.process_group)
        if not on_gpu:
            return torch.device("cpu")
        return tensor.device if tensor.device.type == "cuda" else torch.device("cuda")


ALONE = Group()
"""A single process."""
