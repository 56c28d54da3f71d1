import os
import signal
import time

import pytest
import torch
from accelerate import Accelerator

from reid_accel.training.agreement import StopRequest, choose_precision, cpu_threads


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
    assert choose_precision(asked) == expected


def test_automatic_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    import reid_accel.training.agreement as agreement

    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for able, expected in ((True, "bf16"), (False, "no")):
        monkeypatch.setattr(agreement, "_cpu_computes_bf16", lambda able=able: able)
        assert choose_precision("auto") == expected


def test_a_first_signal_is_noted_and_its_echo_too(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = Accelerator(cpu=True)
    before = signal.getsignal(signal.SIGTERM)
    stop = StopRequest()
    assert not stop.agreed(accelerator, step=1, every_steps=10)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)  # the launcher passes it on
    assert stop.signal_name == "SIGINT"
    assert stop.agreed(accelerator, step=1, every_steps=10)
    stop.restore()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_later_second_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StopRequest, "ECHO_SECONDS", 0.01)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    stop = StopRequest()
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        stop.restore()
        signal.signal(signal.SIGINT, before)
