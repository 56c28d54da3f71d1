"""The files of a saved model. No torch here: they are checked before torch is imported."""

import re
from pathlib import Path

from reid_accel.errors import InputError

MODEL_FILES = ("config.json", "model.safetensors")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def check_model_name(name: str | Path) -> None:
    """Raise InputError unless `name` is a folder with a saved model, or could be a hub repository."""
    folder = Path(name)
    if not folder.is_dir() and _HUB_NAME.fullmatch(str(name)) is None:
        raise InputError(f"there is no model folder {folder}; a run saves its model in RUN/model")
    missing = [file for file in MODEL_FILES if folder.is_dir() and not (folder / file).is_file()]
    if missing:
        raise InputError(f"{folder} is not a saved model: it lacks {' and '.join(missing)}")
