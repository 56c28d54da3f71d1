"""A limit for calls that hang when they are wrong."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail the test if the block takes longer; what is raised in the main thread is no error that a module catches."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail(f"still not done after {seconds} s"))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
