"""`doctor.html`: one self-contained page with the findings and their pictures, in the style of report.html."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from reid_accel.data.images import read_image
from reid_accel.doctor.examine import Diagnosis
from reid_accel.doctor.findings import SEVERITIES, Finding, Place, number_of
from reid_accel.doctor.terminal_table import summary
from reid_accel.errors import InputError
from reid_accel.files import shown, write_text
from reid_accel.reporting.html.page import TEMPLATES
from reid_accel.reporting.html.pictures import PICTURE_HEIGHT_PX, Shown

SHOWN_PICTURES = 12
SHOWN_NAMES = 100


@dataclass(frozen=True)
class Pictured:
    """A picture of a finding on the page. shown: None if the file can't be read. ends: the last of some that belong
    together."""

    split: str
    name: str
    person: str
    camera: int
    shown: Shown | None
    ends: bool

    @property
    def details(self) -> str:
        return f"{self.split}, {self.name}, person {self.person}, camera {self.camera}"


def write_page(path: Path, diagnosis: Diagnosis, title: str) -> None:
    """Write the page of a diagnosis; pictures are read from their files once more."""
    write_text(path, render(diagnosis, title))


def render(diagnosis: Diagnosis, title: str) -> str:
    """The page as text."""
    return TEMPLATES.get_template("doctor.html").render(
        title=title,
        summary=summary(diagnosis),
        numbers={severity: diagnosis.number(severity) for severity in SEVERITIES},
        num_images=sum(map(len, diagnosis.splits.values())),
        findings=[(finding, list(pictures_of(finding, diagnosis)), _names(finding, diagnosis)) for finding in
                  diagnosis.findings],
        tables=diagnosis.facts.tables(),
        advice=diagnosis.advice,
        num_styles=0,
        number_of=number_of,
    )  # fmt: skip


def pictures_of(finding: Finding, diagnosis: Diagnosis) -> Iterator[Pictured]:
    """The first pictures of a finding."""
    left = SHOWN_PICTURES
    for places in finding.together:
        for number, place in enumerate(places[:left], start=1):
            yield _pictured(place, diagnosis, ends=number == len(places[:left]))
        left -= len(places[:left])
        if left <= 0:
            return


def _pictured(place: Place, diagnosis: Diagnosis, *, ends: bool) -> Pictured:
    images = diagnosis.splits[place.split]
    name, pid, camera = shown(images.name_N[place.row]), int(images.pid_N[place.row]), int(images.camera_N[place.row])
    try:
        picture = read_image(images.path_N[place.row])
        picture.thumbnail((4 * PICTURE_HEIGHT_PX, PICTURE_HEIGHT_PX), Image.Resampling.BILINEAR)
        seen = Shown(np.asarray(picture), name, pid, camera, distance=None, correct=None)
    except InputError:
        seen = None
    return Pictured(place.split, name, shown(diagnosis.numbering.name(pid)), camera, seen, ends)


def _names(finding: Finding, diagnosis: Diagnosis) -> list[str]:
    """The first images by split and name."""
    return [
        f"{place.split}: {shown(diagnosis.splits[place.split].name_N[place.row])}"
        for place in finding.images[:SHOWN_NAMES]
    ]
