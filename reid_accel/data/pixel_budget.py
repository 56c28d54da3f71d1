"""A bound on the memory of images that threads decode at the same time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class PixelBudget:
    """Lets threads decode at the same time only as many images as have `pixels` pixels together."""

    def __init__(self, pixels: int) -> None:
        self._free, self._changed = pixels, threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Wait until an image of `pixels` fits, which must be no more than the budget; free it after the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()
