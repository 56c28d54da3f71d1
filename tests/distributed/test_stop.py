"""Asking a run to stop, by signals."""

import os
import signal
import time

import pytest

from reid_accel.distributed import stop as module
from reid_accel.distributed.stop import StopRequest


def test_a_first_signal_is_noted_and_its_echo_too() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert stop.agreed(step=1, every_steps=10) == (False, False)
        assert stop.agreed(step=1, every_steps=10, save=True) == (False, True)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # the launcher passes it on
        assert stop.signal_name == "SIGINT"
        assert stop.agreed(step=1, every_steps=10) == (True, False)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_later_second_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ECHO_SECONDS", 0.01)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    try:
        with StopRequest():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
