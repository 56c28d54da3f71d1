"""Runs of 15 steps with all that has a state, and how far two of them differ."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from helpers.launching import SMALL_RUN, log_of, read_json

EPOCHS, CHECKPOINT_STEPS = 3, 2


def settings(folder: Path, run: Path) -> list[str]:
    """Three epochs of five steps, with all that has a state."""
    return [
        *SMALL_RUN, f"--data.root={folder / 'market'}", f"--data.cache-dir={run}.cache", f"--train.epochs={EPOCHS}",
        "--augment.erase-probability=0.5", "--run.cpu-threads=1", f"--run.checkpoint-steps={CHECKPOINT_STEPS}",
        f"--run.dir={run}",
    ]  # fmt: skip


def differences(whole: Path, run: Path) -> list[str]:
    """In what a run isn't bit for bit the undisturbed one."""
    found = []
    for name in ("model", "ema", "optimizer"):
        ours, theirs = (
            load_file(max(path.glob("checkpoints/step-*")) / f"{name}.safetensors") for path in (run, whole)
        )
        if ours.keys() != theirs.keys() or any(not torch.equal(ours[key], theirs[key]) for key in ours):
            found.append(f"the last state of the {name} differs")
    if (run / "model/model.safetensors").read_bytes() != (whole / "model/model.safetensors").read_bytes():
        found.append("the packaged model differs")
    if read_json(run / "report.json")["retrieval"] != read_json(whole / "report.json")["retrieval"]:
        found.append("the scores differ")
    if log_of(run) != log_of(whole):
        found.append("metrics.jsonl differs")
    litter = [path.name for path in [*run.iterdir(), *(run / "checkpoints").iterdir()] if path.name.startswith(".")]
    return found + [f"{name} was left behind" for name in litter]
