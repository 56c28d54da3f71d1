"""Person re-identification with pedestrian attributes, from one laptop to many nodes.

>>> from reid_accel import ReIDModel, evaluate, load, recipe, top_k, train_model
"""

from typing import TYPE_CHECKING, Any

from reid_accel.version import __version__

if TYPE_CHECKING:
    from reid_accel.api import recipe, train_model
    from reid_accel.data.tables import load
    from reid_accel.importing import import_weights
    from reid_accel.models.reid import ReIDModel
    from reid_accel.retrieval.api import evaluate, top_k
    from reid_accel.retrieval.features import Embeddings
    from reid_accel.retrieval.protocol import Settings

__all__ = [
    "Embeddings",
    "ReIDModel",
    "Settings",
    "__version__",
    "evaluate",
    "import_weights",
    "load",
    "recipe",
    "top_k",
    "train_model",
]

_HOMES = {
    "Embeddings": "reid_accel.retrieval.features",
    "Settings": "reid_accel.retrieval.protocol",
    "ReIDModel": "reid_accel.models.reid",
    "evaluate": "reid_accel.retrieval.api",
    "import_weights": "reid_accel.importing",
    "load": "reid_accel.data.tables",
    "recipe": "reid_accel.api",
    "train_model": "reid_accel.api",
    "top_k": "reid_accel.retrieval.api",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that `reid-accel --help` needs neither torch nor datasets."""
    if name not in _HOMES:
        raise AttributeError(f"module 'reid_accel' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
