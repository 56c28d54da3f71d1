"""Small made MOTChallenge sequences."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

INFO = (
    "[Sequence]\nname={name}\nimDir=img1\nframeRate={rate}\nseqLength={frames}\nimWidth=128\nimHeight=80\nimExt=.png\n"
)


def make_sequence(
    folder: Path,
    *,
    people: Sequence[int] = (1, 2, 3),
    frames: int = 12,
    seed: int = 0,
    rate: int = 30,
    out_of_sight: range = range(0),
) -> Path:
    """A sequence of noise, 128 x 80 pixels, in which each person has a color and moves to the right.

    out_of_sight: frames in which nobody is annotated.
    """
    rng = np.random.default_rng(seed)
    colors = {person: rng.uniform(40, 215, 3) for person in people}
    lines = []
    for frame in range(1, frames + 1):
        pixels = rng.normal(128, 20, (80, 128, 3))
        for place, person in enumerate(people):
            left, top = 2 + place * 24 + frame % 6, 10 + place
            pixels[top - 1 : top + 47, left - 1 : left + 19] = colors[person] + rng.normal(0, 25, (48, 20, 3))
            if frame not in out_of_sight:
                lines.append(f"{frame},{person},{left},{top},20,48,1,1,1")
        path = folder / "img1" / f"{frame:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    write_boxes(folder, lines)
    (folder / "seqinfo.ini").write_text(INFO.format(name=folder.name, rate=rate, frames=frames))
    return folder


def write_boxes(folder: Path, lines: Sequence[str]) -> Path:
    """The annotation of a sequence."""
    path = folder / "gt" / "gt.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path
