"""What a scheme makes of a checkpoint: its network, our names for its tensors, and what is left out."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
Normalization = tuple[tuple[float, ...], tuple[float, ...]]
Tensors = Mapping[str, Tensor]
Rules = tuple[tuple[str, str], ...]
TRAINING_ONLY = "classifies the identities of its training set: used in training only"


@dataclass(frozen=True, kw_only=True)
class Recognized:
    """A checkpoint whose scheme is known.

    names: our name of a tensor -> its name in the file. made: tensors by our names that are computed from the file's.
    left_out: regular expressions of further names in the file -> why they are not taken as they are.
    model: the settings of the network. normalization: mean and standard deviation of its input. cameras: numbers of the
    cameras whose embeddings it has.
    """

    scheme: str
    names: Mapping[str, str]
    model: Mapping[str, Any]
    made: Tensors = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    normalization: Normalization = IMAGENET
    cameras: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_reid(self) -> bool:
        """Whether this is a re-identification model and not only a backbone."""
        return any(name.startswith("neck.") for name in (*self.names, *self.made))

    def tensors(self, stored: Tensors) -> dict[str, Tensor]:
        """The file's tensors by our names."""
        return {ours: stored[theirs] for ours, theirs in self.names.items()} | dict(self.made)

    def reasons(self, stored: Iterable[str]) -> dict[str, str | None]:
        """Why each tensor that is not used under its own values is left out; None where no rule says why."""
        used = set(self.names.values())
        return {name: self._reason(name) for name in stored if name not in used}

    def _reason(self, name: str) -> str | None:
        return next((reason for rule, reason in self.left_out.items() if re.fullmatch(rule, name)), None)


def under(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def backbone_names(
    names: Iterable[str], rules: Rules = (), prefix: str = "", *, without: Callable[[str], bool] | None = None
) -> dict[str, str]:
    """Our names of a backbone's tensors -> theirs; `prefix` is what theirs begin with in the file."""
    kept = [name for name in names if without is None or not without(name)]
    return {f"backbone.{renamed(name, rules)}": prefix + name for name in kept}


def renamed(name: str, rules: Rules) -> str:
    """The name after all regular expressions were replaced, in order."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
