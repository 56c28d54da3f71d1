"""Progress bars, as the doctor's parts use them."""

from collections.abc import Callable
from contextlib import AbstractContextManager

Done = Callable[[int], None]
"""To be called with the number of images just done."""
Bar = Callable[[str, int], AbstractContextManager[Done]]
"""A progress bar from its title and its number of images."""
