import os
from pathlib import Path

import pytest
import torch
import torch._inductor.config

from reid_accel.hardware import choose_precision, compile_if_possible, cpu_threads


def test_the_launchers_one_thread_does_not_leave_cores_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cpu_threads(0) == 4
    assert cpu_threads(3) == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert cpu_threads(0) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert cpu_threads(0) == torch.get_num_threads()


@pytest.mark.parametrize(
    ("asked", "launcher", "expected"),
    [("no", "bf16", "no"), ("bf16", "no", "bf16"), ("auto", "fp16", "fp16"), ("auto", "bf16", "bf16")],
)
def test_precision_is_what_was_asked_for(
    asked: str, launcher: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launcher)
    assert choose_precision(asked, 32) == expected


def test_automatic_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    import reid_accel.hardware as hardware

    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for able, expected in ((True, "bf16"), (False, "no")):
        monkeypatch.setattr(hardware, "_cpu_computes_bf16", lambda able=able: able)
        assert choose_precision("auto", 64) == expected
        assert choose_precision("auto", 63) == "no"


def test_a_compiled_network_keeps_its_names_and_its_answers() -> None:
    torch.manual_seed(0)
    network, images = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()), torch.rand(2, 3, 8, 8)
    names, plain = list(network.state_dict()), network(images)
    assert compile_if_possible(network, torch.device("cpu"))
    assert torch.allclose(network(images), plain, atol=1e-6)
    assert list(network.state_dict()) == names
    torch.compiler.reset()


def test_a_machine_without_a_compiler_trains_without_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # what was compiled before would not ask for one
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (None, "no-such-compiler"))
    network = torch.nn.Linear(2, 2)
    assert not compile_if_possible(network, torch.device("cpu"))
    assert "continues without it" in caplog.text
    assert network(torch.ones(1, 2)).shape == (1, 2)
