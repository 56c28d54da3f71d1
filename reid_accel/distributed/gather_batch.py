"""The batch of all processes, for losses that compare images with each other.

Legend: B this process's images, C those of all processes, D feature.
"""

import torch
from accelerate import Accelerator
from torch import Tensor


def all_gather_with_grad(feature_BD: Tensor, accelerator: Accelerator) -> Tensor:
    """The features of all processes, C x D, in the order of processes; gradients reach this process's own rows.

    Meant for a loss over all anchors of the gathered batch, which every process computes alike. Its gradient is the sum
    over processes of dLoss / d(own rows) * d(own rows) / d(parameters). Each process has its own term of that, the
    other rows being constants there, and so nothing needs to be sent backwards; but data-parallel training averages
    the terms over the W processes where they have to be added. Own rows' gradients are therefore multiplied by W, and
    the average is the gradient that one process would have computed on the whole batch.

    Every process must call it, with as many rows as the others. With one process it returns what it was given.
    """
    if accelerator.num_processes == 1:
        return feature_BD
    constant_BD = feature_BD.detach()
    before, after = _others(constant_BD, accelerator)
    # the value of the features and W times their gradient
    own_BD = constant_BD + accelerator.num_processes * (feature_BD - constant_BD)
    return torch.cat([before, own_BD, after])


def gather_labels(label_B: Tensor, accelerator: Accelerator) -> Tensor:
    """The labels that belong to `all_gather_with_grad`'s rows; every process must call it, with equally many."""
    if accelerator.num_processes == 1:
        return label_B
    gathered_C = accelerator.gather(label_B)
    assert isinstance(gathered_C, Tensor)
    return gathered_C


def _others(feature_BD: Tensor, accelerator: Accelerator) -> tuple[Tensor, Tensor]:
    """The rows of the processes before this one, and of those after it."""
    gathered_CD = accelerator.gather(feature_BD)
    assert isinstance(gathered_CD, Tensor)
    first = accelerator.process_index * len(feature_BD)
    return gathered_CD[:first], gathered_CD[first + len(feature_BD) :]
