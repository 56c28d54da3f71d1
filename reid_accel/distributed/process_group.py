"""The exchanges of `Ranks` over a process group of torch.distributed, as plain tensors."""

import torch
import torch.distributed as dist

from reid_accel.distributed.ranks import ALONE, Ranks
from reid_accel.errors import InputError

LONGEST_ERROR_BYTES = 1000


def exchanges_of(group: dist.ProcessGroup | None) -> Ranks:
    """The exchanges of `Ranks` over a process group, or those of a single rank where there is none."""
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    world_size, own_rank = dist.get_world_size(group), dist.get_rank(group)
    # NCCL only moves tensors between GPUs
    device = torch.device("cuda" if "nccl" in dist.get_backend(group) else "cpu")

    def add_up(tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.detach().to(device, copy=True)
        dist.all_reduce(total, group=group)
        return total.to(tensor.device)

    def stack(tensor: torch.Tensor) -> torch.Tensor:
        own = tensor.to(device).contiguous()
        received = [torch.empty_like(own) for _ in range(world_size)]
        dist.all_gather(received, own, group=group)
        return torch.stack(received).to(tensor.device)

    def share_error(message: str | None) -> None:
        text = (message or "").encode()[:LONGEST_ERROR_BYTES]
        padded = torch.zeros(LONGEST_ERROR_BYTES, dtype=torch.uint8)
        padded[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else 0
        for rank, told in enumerate(stack(padded)):
            if rank != own_rank and message is None and bool(told.any()):
                said = told.numpy().tobytes().rstrip(b"\0").decode(errors="replace")
                raise InputError(f"rank {rank} says: {said}")

    def collect(feature_SD: torch.Tensor) -> torch.Tensor | None:
        count_W = stack(torch.tensor([len(feature_SD)]))[:, 0].tolist()
        padded = feature_SD.new_zeros(max(count_W), feature_SD.shape[1]).to(device)
        padded[: len(feature_SD)] = feature_SD
        received = [torch.empty_like(padded) for _ in range(world_size)] if own_rank == 0 else None
        dist.gather(padded, received, group=group, group_dst=0)
        if received is None:
            return None
        return torch.cat([part[:count] for part, count in zip(received, count_W, strict=True)]).to(feature_SD.device)

    return Ranks(add_up, stack, share_error, collect)
