"""Whether two runs are the same, bit for bit."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from helpers.launching import log_of, read_json

FAULTY = Path(__file__).with_name("faulty_train.py")


def last_state(folder: Path, run: str) -> dict[str, torch.Tensor]:
    """All tensors of the newest checkpoint: weights, averages, the optimizer's moments."""
    path = max((folder / run / "checkpoints").iterdir())
    names = ("model", "ema", "optimizer")
    return {f"{name} {key}": value for name in names for key, value in load_file(path / f"{name}.safetensors").items()}


def assert_same_run(folder: Path, one: str, other: str) -> None:
    """Bit for bit: last state, package, scores, and what was logged (but for times)."""
    states = [last_state(folder, run) for run in (one, other)]
    assert states[0].keys() == states[1].keys()
    differing = [name for name in states[0] if not torch.equal(states[0][name], states[1][name])]
    assert not differing
    assert (folder / one / "model/model.safetensors").read_bytes() == (
        folder / other / "model/model.safetensors"
    ).read_bytes()
    reports = [read_json(folder / run / "report.json") for run in (one, other)]
    assert reports[0]["retrieval"] == reports[1]["retrieval"]
    assert log_of(folder / one) == log_of(folder / other)
