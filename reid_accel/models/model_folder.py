"""The files of a saved model. No torch here: they are checked before torch is imported."""

import re
from pathlib import Path

from reid_accel.config.checks import in_home
from reid_accel.errors import InputError

MODEL_FILES = ("config.json", "model.safetensors")
CARD_FILE, LICENSE_FILE = "README.md", "LICENSE.md"
OWN_FILES = (*MODEL_FILES, CARD_FILE, LICENSE_FILE)
"""All that training writes beside the weights: what a push uploads, and what --run.overwrite may delete."""
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def check_model_name(name: str | Path) -> None:
    """Raise InputError unless `name` is a folder with a saved model, or could be a hub repository."""
    folder = Path(in_home(str(name)))
    if folder.is_dir():
        missing = [file for file in MODEL_FILES if not (folder / file).is_file()]
        if missing:
            raise InputError(f"{folder} is not a saved model: it lacks {' and '.join(missing)}")
    elif not _may_be_on_the_hub(str(name)):
        raise InputError(f"there is no model folder {folder}; a run saves its model in RUN/model")


def _may_be_on_the_hub(name: str) -> bool:
    """Whether a name is of the form user/name and not a mistyped path: runs/NAME, or in a folder that exists."""
    user = name.partition("/")[0]
    return _HUB_NAME.fullmatch(name) is not None and user != "runs" and not Path(user).is_dir()
