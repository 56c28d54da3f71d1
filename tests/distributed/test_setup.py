import os
import signal
import time

import pytest
from accelerate import Accelerator

from reid_accel.distributed.setup import StopRequest


def test_a_first_signal_is_noted_and_its_echo_too(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = Accelerator(cpu=True)
    before = signal.getsignal(signal.SIGTERM)
    stop = StopRequest()
    assert stop.agreed(accelerator, step=1, every_steps=10) == (False, False)
    assert stop.agreed(accelerator, step=1, every_steps=10, save=True) == (False, True)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)  # the launcher passes it on
    assert stop.signal_name == "SIGINT"
    assert stop.agreed(accelerator, step=1, every_steps=10) == (True, False)
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
