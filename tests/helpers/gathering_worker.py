"""What the test of gathered batches runs on each process: gradients of a small network, told to a JSON file."""

import json
import sys
from pathlib import Path

import torch

from reid_accel.distributed.collectives import Group
from reid_accel.distributed.setup import process_group_scope, start_accelerator
from reid_accel.distributed.watchdog import Watchdog
from reid_accel.models.metric_losses import circle_loss, triplet_loss

LOSSES = {
    "triplet": lambda feature, identity: triplet_loss(feature, identity, 0.3),
    "circle": lambda feature, identity: circle_loss(feature, identity, 0.25, 8.0),
}


def problem() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """A network, 16 inputs and their identities, of which each half has positives and negatives."""
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Linear(6, 4, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.randn(4, 6, generator=generator))
    return model, torch.randn(16, 6, generator=generator), torch.arange(16) % 5


def gradients_of_one_process() -> dict[str, tuple[float, torch.Tensor]]:
    """Each loss and its gradient on the whole batch, without anything that knows of processes."""
    model, images, identity = problem()
    found = {}
    for name, function in LOSSES.items():
        loss = function(model(images), identity)
        found[name] = (loss.item(), torch.autograd.grad(loss, model.weight)[0])
    return found


def plainly_gathered(feature: torch.Tensor) -> torch.Tensor:
    """The control: own rows with their own gradient, not W times as much."""
    group = Group.of()
    parts = group.all_gather(feature.detach())
    return torch.cat([*parts[: group.rank], feature, *parts[group.rank + 1 :]])


def main(watchdog: Watchdog) -> None:
    accelerator = start_accelerator("no", watchdog=watchdog)
    group = Group.of()
    model, images, identity = problem()
    model = accelerator.prepare(model)
    size = len(images) // accelerator.num_processes
    own = slice(accelerator.process_index * size, (accelerator.process_index + 1) * size)
    whole_identity = group.all_gather(identity[own]).flatten()
    assert torch.equal(whole_identity, identity)

    def told(function, gather, labels):
        model.zero_grad()
        loss = function(gather(model(images[own])), labels)
        accelerator.backward(loss)
        return loss.item(), accelerator.unwrap_model(model).weight.grad.tolist()

    said = {"world_size": accelerator.num_processes, "rank": accelerator.process_index}
    for name, function in LOSSES.items():
        loss, gradient = told(function, group.all_gather_with_grad, whole_identity)
        said[name] = {
            "loss": loss,
            "gradient": gradient,
            "unscaled_gradient": told(function, plainly_gathered, whole_identity)[1],
            "own_half_gradient": told(function, lambda feature: feature, identity[own])[1],
        }
    Path(f"{sys.argv[1]}.{accelerator.process_index}").write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    with process_group_scope() as watchdog:
        main(watchdog)
