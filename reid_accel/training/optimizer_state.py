"""An optimizer's state by parameter name, as tensors and JSON, for any number of processes and parameter groups.

`torch.distributed.checkpoint.state_dict` also uses parameter names, but it initializes an empty state with a step,
which Adam counts.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor
from torch.distributed.tensor import DTensor

from reid_accel.distributed.fsdp import shard_like


def tensors_by_name(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state's tensors as `PARAMETER/KEY`, and the other values and the optimizer's type for JSON."""
    entries = {f"{name}/{key}": value for name, state in _states(model, optimizer) for key, value in state.items()}
    tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
    rest = {name: value for name, value in entries.items() if name not in tensors}
    return tensors, {"kind": type(optimizer).__name__, "values": rest}


def _states(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, parameter in model.named_parameters():
        if parameter in optimizer.state:
            yield name, optimizer.state[parameter]


def load_by_name(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]
) -> bool:
    """Load a saved state, sharded like the parameters; returns False for another type of optimizer.

    Learning rates, weight decay and other settings of `optimizer` are kept.
    """
    if rest["kind"] != type(optimizer).__name__:
        return False
    states: dict[str, dict[str, Any]] = {}
    for entry, value in {**tensors, **rest["values"]}.items():
        name, _, key = entry.rpartition("/")
        states.setdefault(name, {})[key] = value
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    names = [name_of[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    state = {index: states[name] for index, name in enumerate(names) if name in states}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, entries in optimizer.state.items():
        for key, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                entries[key] = _laid_out(value, parameter)
    return True


def _laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """Sharded like its parameter, or in its memory format, so that a step takes the same code path."""
    if isinstance(parameter, DTensor):
        return shard_like(value, parameter)
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value) if value.ndim == 4 else value
