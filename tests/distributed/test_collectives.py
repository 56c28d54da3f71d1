"""Gathering with gradients on two real processes: the gradient that one process computes on the full batch."""

from pathlib import Path

import pytest
import torch
from helpers.gathering_worker import gradients_of_one_process
from helpers.launching import PACKAGE, launch, read_json

pytestmark = pytest.mark.launch
WORKER = PACKAGE.parent / "tests" / "helpers" / "gathering_worker.py"


def test_two_processes_get_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    launch(WORKER, tmp_path / "found", folder=tmp_path, processes=2)
    first, second = (read_json(tmp_path / f"found.{rank}") for rank in (0, 1))
    assert (first["world_size"], second["world_size"]) == (2, 2)
    assert (first["rank"], second["rank"]) == (0, 1)
    for name, (loss, gradient) in gradients_of_one_process().items():
        for found in (first[name], second[name]):
            assert found["loss"] == pytest.approx(loss, rel=1e-6)
            torch.testing.assert_close(torch.tensor(found["gradient"]), gradient, atol=1e-6, rtol=0)
            # controls: each process its own half; the gathered rows without the factor
            for control in ("own_half_gradient", "unscaled_gradient"):
                assert (torch.tensor(found[control]) - gradient).abs().max() > 1e-2, control
