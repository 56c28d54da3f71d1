"""What is known of an exported file once it is loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_accel.export.metadata import GraphInfo


@dataclass(frozen=True)
class Opened:
    """A loaded graph: its description, its shapes, and how it is called.

    shapes: by name, None for a symbolic length; formats that keep no shapes have none. errors: what `call` raises for a
    batch that the graph can't take.
    """

    info: GraphInfo | None
    call: Callable[[npt.NDArray[np.float32]], list[Any]]
    errors: tuple[type[BaseException], ...]
    inputs: dict[str, tuple[int | None, ...]]
    outputs: dict[str, tuple[int | None, ...]]
