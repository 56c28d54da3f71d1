"""Training from a notebook: a caller's Accelerator, an event loop, threads, output that is no terminal and no file."""

import asyncio
import io
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, notebook_launcher
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file

import reid_accel
from reid_accel.api import TrainedRun


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for state in (PartialState, AcceleratorState, GradientState):
        state._shared_state.clear()


def trained(root: Path, folder: Path, **run: Any) -> TrainedRun:
    config = reid_accel.recipe(
        "quickstart",
        data={"name": "market-layout", "root": str(root), "cache_dir": str(root / "cache"), "validation_share": 0.2},
        model={"backbone": "test_resnet", "height_px": 64, "width_px": 64, "pretrained": False},
        train={"epochs": 1, "batch_size": 8, "accumulation_steps": 2},
        run={"dir": str(folder), "mixed_precision": "no", "cpu_threads": 1} | run,
        score={"shown_queries": 1},
    )
    return reid_accel.train_model(config)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model/model.safetensors")


@pytest.fixture
def expected(small_market: Path, tmp_path: Path) -> dict[str, torch.Tensor]:
    """The weights of the same run as a script would start it."""
    trained(small_market, tmp_path / "plain")
    return weights(tmp_path / "plain")


def assert_equal(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


def test_a_run_beside_an_accelerator_of_the_caller_is_the_same_run(
    small_market: Path, tmp_path: Path, expected: dict[str, torch.Tensor]
) -> None:
    callers = Accelerator(mixed_precision="bf16", gradient_accumulation_steps=4, dynamo_backend="eager")
    model, optimizer = torch.nn.Linear(2, 2), torch.optim.SGD
    model, optimizer = callers.prepare(model, optimizer(model.parameters(), lr=0.1))
    trained(small_market, tmp_path / "beside")
    assert_equal(weights(tmp_path / "beside"), expected)
    assert (callers.mixed_precision, callers.gradient_accumulation_steps) == ("bf16", 4)
    callers.backward(model.forward(torch.ones(1, 2)).sum())
    optimizer.step()


def test_notebook_launcher_starts_a_run(small_market: Path, tmp_path: Path, expected: dict[str, torch.Tensor]) -> None:
    notebook_launcher(trained, (small_market, tmp_path / "launched"), num_processes=1)
    assert_equal(weights(tmp_path / "launched"), expected)


def test_a_run_in_an_event_loop_and_one_in_a_thread_are_the_same_run(
    small_market: Path, tmp_path: Path, expected: dict[str, torch.Tensor]
) -> None:
    async def cell() -> None:
        trained(small_market, tmp_path / "loop")
        await asyncio.to_thread(trained, small_market, tmp_path / "worker")

    asyncio.run(cell())
    thread = threading.Thread(target=trained, args=(small_market, tmp_path / "thread"))
    thread.start()
    thread.join()
    for name in ("loop", "worker", "thread"):
        assert_equal(weights(tmp_path / name), expected)


class WriteOnly:
    """A stream without fileno, isatty and encoding, as some notebooks put in the place of standard output."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


class NoDescriptor(io.StringIO):
    """A stream without a file descriptor that isn't a terminal."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


@pytest.mark.parametrize("make", [WriteOnly, NoDescriptor, lambda: None], ids=["write only", "no descriptor", "none"])
def test_a_run_needs_no_terminal(
    make: Any, small_market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, error = make(), make()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", error)
    run = trained(small_market, tmp_path / "run")
    assert run.report["training"]["epochs"] == 1
    if isinstance(out, WriteOnly | NoDescriptor):
        text = out.text if isinstance(out, WriteOnly) else out.getvalue()
        assert "mAP" in text
