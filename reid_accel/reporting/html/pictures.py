"""Rank lists in pictures: a query and what was found for it, framed by right and wrong."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from reid_accel.reporting.html.markup import Markup, element, joined, section, text
from reid_accel.reporting.schema import percent

PICTURE_HEIGHT_PX = 192


@dataclass(frozen=True)
class Shown:
    """One picture of a rank list; `distance` and `correct` are None for the query itself."""

    image_HWC: np.ndarray
    name: str
    pid: int
    camera: int
    distance: float | None
    correct: bool | None


@dataclass(frozen=True)
class RankList:
    """A query, what the model ranked first for it, and its average precision (0 to 1)."""

    query: Shown
    matches: tuple[Shown, ...]
    average_precision: float


def rank_lists_section(title: str, note: str, lists: Sequence[RankList]) -> Markup:
    if not lists:
        return Markup()
    keys = (("query", "query"), ("right", "✓ same person"), ("wrong", "✗ someone else"))
    legend = joined(Markup(f'<span><span class="sample {kind}"></span>{text(words)}</span>') for kind, words in keys)
    rows = [_rank_list(rank_list) for rank_list in lists]
    return section(title, element("p", legend, "note keys"), *rows, note=note)


def _rank_list(rank_list: RankList) -> Markup:
    query = rank_list.query
    right = sum(match.correct is True for match in rank_list.matches)
    heading = Markup(
        f"<h3>{text(query.name)} <span>AP {percent(rank_list.average_precision)}, "
        f"{right} of the first {len(rank_list.matches)} right</span></h3>"
    )
    pictures = joined(_picture(shown) for shown in (query, *rank_list.matches))
    return Markup(f'<div class="list">{heading}<div class="strip">{pictures}</div></div>')


def _picture(shown: Shown) -> Markup:
    kind, mark = {None: ("query", "query"), True: ("right", "✓"), False: ("wrong", "✗")}[shown.correct]
    distance = "" if shown.distance is None else f"{shown.distance:#.3g}"
    details = f"{shown.name}, person {shown.pid}, camera {shown.camera}"
    details += f", distance {distance}" if distance else ""
    caption = joined([element("b", mark), element("span", f"cam {shown.camera}"), element("i", distance)])
    spoken = {"query": "query", "right": "same person", "wrong": "someone else"}[kind]
    return Markup(
        f'<figure class="{kind}" title="{text(details)}"><img src="{_data_uri(shown.image_HWC)}" '
        f'alt="{text(spoken)}: {text(details)}"><figcaption>{caption}</figcaption></figure>'
    )


def _data_uri(image_HWC: np.ndarray) -> str:
    """A uint8 picture, gray or RGB, as a JPEG of at most PICTURE_HEIGHT_PX inside the page."""
    picture = Image.fromarray(image_HWC).convert("RGB")
    picture.thumbnail((4 * PICTURE_HEIGHT_PX, PICTURE_HEIGHT_PX))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
