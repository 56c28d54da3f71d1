"""Rank lists as pictures: a query and its matches, framed as right or wrong."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

PICTURE_HEIGHT_PX = 192
SHOWN_AFTER_LAST_HIT = 2
SHOWN_TIES = 5


@dataclass(frozen=True)
class Shown:
    """One picture of a rank list; `distance` and `correct` are None for the query itself."""

    image_HWC: np.ndarray
    name: str
    pid: int
    camera: int
    distance: float | None
    correct: bool | None
    person: str = ""
    """The person's name, if the data set has names instead of numbers."""

    @property
    def details(self) -> str:
        words = f"{self.name}, person {self.person or self.pid}, camera {self.camera}"
        return words if self.distance is None else f"{words}, distance {self.distance:#.3g}"

    @property
    def data_uri(self) -> str:
        """The uint8 picture, gray or RGB, as a JPEG of at most PICTURE_HEIGHT_PX inside the page."""
        picture = Image.fromarray(self.image_HWC).convert("RGB")
        picture.thumbnail((4 * PICTURE_HEIGHT_PX, PICTURE_HEIGHT_PX))
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=88)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@dataclass(frozen=True)
class RankList:
    """A query, its top-ranked matches, its average precision (0 to 1), and its number of hits in the gallery."""

    query: Shown
    matches: tuple[Shown, ...]
    average_precision: float
    num_hits: int

    @property
    def num_found(self) -> int:
        return sum(match.correct is True for match in self.matches)

    @property
    def strip(self) -> list[tuple[str, Shown]]:
        """Each shown picture with its kind: query, right, wrong, or `rest` (after the last hit; only a few)."""
        strip, found, rest = [("query", self.query)], 0, 0
        for match in self.matches:
            if found < self.num_hits:
                strip.append(("right" if match.correct else "wrong", match))
                found += match.correct is True
            elif rest < SHOWN_AFTER_LAST_HIT:
                strip.append(("rest", match))
                rest += 1
        return strip


def without_ties(lists: Sequence[RankList]) -> list[RankList]:
    """The lists to show: all of them, or a few of different people if all are perfect."""
    if any(ranked.average_precision < 1 for ranked in lists):
        return list(lists)
    of_person: dict[int, RankList] = {}
    for ranked in lists:
        of_person.setdefault(ranked.query.pid, ranked)
    return list(of_person.values())[:SHOWN_TIES]
