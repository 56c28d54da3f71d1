"""What travels with an export, so that its proof can be repeated elsewhere: images, features, and a script."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from reid_accel.export.parity import Reference
from reid_accel.export.pictures import DRAWN
from reid_accel.files import read_text

GOLDEN_FILE = "golden.safetensors"
CHECK_FILE = "check.py"
_SCRIPT = Path(__file__).with_name("check_script.py")


def write_golden(folder: Path, wanted: Reference) -> None:
    """Write the drawn pedestrians (`images`, uint8, N x H x W x 3), their features, and the script that compares them.

    The images of the run are not in it.
    """
    tensors: dict[str, npt.NDArray[Any]] = {
        "images": np.ascontiguousarray(wanted.pictures.pixels_NHW3[:DRAWN]),
        "features": np.ascontiguousarray(wanted.feature_ND[:DRAWN]),
    }
    save_file(tensors, folder / GOLDEN_FILE)
    (folder / CHECK_FILE).write_text(read_text(_SCRIPT), encoding="utf-8")
