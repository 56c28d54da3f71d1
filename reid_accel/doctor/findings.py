"""What the doctor finds: a sentence, a remedy, and the images that it is about."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from reid_accel.data.dataset import ImageDataset
from reid_accel.errors import listed

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

TRAIN = "train"
LABELED_TEST = ("query", "gallery")

Splits = Mapping[str, ImageDataset]


@dataclass(frozen=True)
class Numbering:
    """What the person numbers of a set mean: see `Listing.numbered_apart` and `Listing.people`."""

    apart: bool = False
    people: Mapping[int, str] = field(default_factory=dict)

    def name(self, pid: int) -> str:
        """A person by its name in the set, else by its number."""
        return self.people.get(pid, str(pid))

    def listed(self, pids: Iterable[int]) -> str:
        """The first people by name."""
        return listed((f"person {self.name(pid)}" for pid in pids), 3)


NUMBERS = Numbering()


class Place(NamedTuple):
    """An image of a data set by its split and its row there."""

    split: str
    row: int


@dataclass(frozen=True)
class Finding:
    """Something about a data set.

    key: a name that stays the same between versions. severity: "error" if scores or labels are wrong, or training would
    refuse the set; "warning" if training suffers; "note" if it is worth knowing. together: the images that it is about,
    those that belong together (copies of one picture) in one tuple. left_out: those that `--fix` leaves out.
    unknown: attribute values that `--fix` writes as unknown.
    """

    key: str
    severity: Severity
    sentence: str
    remedy: str
    together: tuple[tuple[Place, ...], ...] = ()
    left_out: tuple[Place, ...] = ()
    unknown: tuple[tuple[Place, int], ...] = ()

    @property
    def images(self) -> tuple[Place, ...]:
        """All images, in the order of `together`, each once."""
        return tuple(dict.fromkeys(place for places in self.together for place in places))


def each_alone(split: str, rows: Iterable[int] | npt.NDArray[np.int64]) -> tuple[tuple[Place, ...], ...]:
    """Images of a split that have nothing to do with each other, for `Finding.together`."""
    return tuple((Place(split, int(row)),) for row in rows)


def places(split: str, rows: Iterable[int] | npt.NDArray[np.int64]) -> tuple[Place, ...]:
    """Images of a split."""
    return tuple(Place(split, int(row)) for row in rows)


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first; within a severity in the given order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def number_of(count: int, thing: str, plural: str = "") -> str:
    """A count with its noun.

    >>> number_of(1, "image"), number_of(1200, "image"), number_of(2, "person", "people")
    ('1 image', '1,200 images', '2 people')
    """
    return f"{count:,} {thing if count == 1 else plural or thing + 's'}"
