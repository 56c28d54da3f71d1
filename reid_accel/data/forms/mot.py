"""MOTChallenge sequences (Milan et al. 2016) as a re-ID set: crops are cut from the frames into the cache on first use.

The set is one sequence or a folder of sequences, each with `img1/000001.jpg` ..., `gt/gt.txt` and, usually,
`seqinfo.ini`. A sequence is a camera. People of different sequences are different, unless they share their ids.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from reid_accel.data.cache_dir import writable_cache
from reid_accel.data.forms.frame_crops import CutCrops, Region, Wanted, cut_crops
from reid_accel.data.forms.mot_boxes import Bools, Boxes, Ints, read_boxes
from reid_accel.data.forms.mot_videos import INFO, Video, find_videos
from reid_accel.data.images import READER
from reid_accel.data.listing import UNSPLIT, ImageFile, Listing, fingerprint_of
from reid_accel.errors import InputError, listed
from reid_accel.files import sha256

NO_ID, NO_AREA, NO_FRAME = "without an id", "without an area", "in frames that do not exist"
IGNORED, HIDDEN = "marked as ignored or no pedestrian", "less visible than --data.min-visibility"
LOW, BETWEEN = "lower than --data.min-height-px", "in frames between every n-th (--data.every)"
ROUTINE = (IGNORED, HIDDEN, LOW, BETWEEN)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """Which boxes become crops: those that are high and visible enough, in every n-th frame that has boxes."""

    every: int = 10
    min_height_px: int = 32
    min_visibility: float = 0.3


@dataclass(frozen=True)
class _Chosen:
    """The chosen boxes of a video, by person and frame, with their tracklets, numbered from 0 within the video."""

    video: Video
    camera: int
    boxes: Boxes
    tracklet_N: Ints
    left_out: Mapping[str, int]

    def region(self, row: int) -> Region:
        boxes = self.boxes
        folder = f"{self.camera:03d}-{self.video.name[:50]}"
        name = f"{folder}/{boxes.person_N[row]}_{boxes.frame_N[row]}"
        left, top, width, height = map(float, boxes.box_N4[row])
        return Region(name, left, top, width, height, float(boxes.visibility_N[row]))

    def frame(self, row: int) -> Path:
        return self.video.frames[int(self.boxes.frame_N[row])]


@dataclass(frozen=True)
class Mot:
    """See the module. tracks: a folder with a tracker's output, SEQUENCE.txt each, in place of the annotations.

    shared_ids: an id is the same person in all sequences, as in multi-camera tracking.
    """

    cache_dir: Path
    selection: Selection = Selection()
    shared_ids: bool = False
    tracks: Path | None = None
    on_bad_image: str = "error"
    name: str = "mot"

    def check(self, root: Path) -> None:
        """See `Layout`; no crop is cut."""
        self._choose(root)

    def read(self, root: Path) -> Listing:
        """See `Layout`."""
        chosen, warnings = self._choose(root)
        key = self._key(root, chosen)
        regions: dict[Path, list[Region]] = {}
        for one in chosen:
            for row in range(len(one.boxes)):
                regions.setdefault(one.frame(row), []).append(one.region(row))
        wanted = Wanted(self.selection.min_height_px, self.selection.min_visibility)
        cut = cut_crops(regions, wanted, writable_cache(self.cache_dir) / "frames" / key)
        images = tuple(_images(chosen, cut.paths, self.shared_ids))
        if not images:
            raise InputError(f"no crop is left of {root}: {_counted(cut.left_out)}")
        fingerprint = hashlib.sha256(f"{key} {self.shared_ids}".encode()).hexdigest()[:16]
        return Listing({UNSPLIT: images}, (), fingerprint, (*warnings, *self._problems(cut)))

    def _choose(self, root: Path) -> tuple[list[_Chosen], list[str]]:
        """The boxes that become crops, and warnings about others. Raises InputError if there are none."""
        videos, warnings = find_videos(root, self.tracks)
        chosen = [_chosen(video, camera, self.selection) for camera, video in enumerate(videos, 1)]
        left_out = sum((Counter(one.left_out) for one in chosen), Counter[str]())
        if not any(len(one.boxes) for one in chosen):
            raise InputError(f"{root} has no box of a person that can be used: {_counted(left_out)}")
        if left_out[BETWEEN] and not any(_has_two_of_one(one.boxes) for one in chosen):
            raise InputError(
                f"with --data.every {self.selection.every}, {root} has no two boxes of one person, which training "
                "needs: lower it"
            )
        logger.info(f"{sum(len(one.boxes) for one in chosen):,} boxes are cut from {root}; {_counted(left_out)}")
        odd = {reason: number for reason, number in left_out.items() if reason not in ROUTINE}
        return chosen, warnings + ([f"boxes of {root.name} are left out: {_counted(odd)}"] if odd else [])

    def _key(self, root: Path, chosen: Sequence[_Chosen]) -> str:
        """A hash of all that the crops depend on: frames, boxes, settings, and how images are read."""
        frames = {
            str(one.camera): [
                ImageFile(one.video.frames[number], "", 0, 0) for number in np.unique(one.boxes.frame_N).tolist()
            ]
            for one in chosen
        }
        infos = [one.video.folder / INFO for one in chosen]
        boxes = [[one.video.name, sha256(one.video.boxes_file)] for one in chosen]
        parts = [fingerprint_of(root, frames, infos), boxes, asdict(self.selection), READER]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def _problems(self, cut: CutCrops) -> list[str]:
        """Warnings about what could not be cut. Raises InputError for unreadable frames, unless they are skipped."""
        if cut.unreadable and self.on_bad_image == "error":
            first = next(iter(cut.unreadable.values()))
            raise InputError(
                f"{first} ({len(cut.unreadable):,} frames are unreadable); replace it, or skip unreadable images: "
                "--data.on-bad-image skip"
            )
        warnings = [f"boxes are left out: {_counted(cut.left_out)}"] if cut.left_out else []
        if cut.unreadable:
            frames = listed("/".join(Path(frame).parts[-3:]) for frame in cut.unreadable)  # for reports: no place
            warnings.append(f"{len(cut.unreadable):,} frames are unreadable and left out: {frames}")
        return warnings


def _has_two_of_one(boxes: Boxes) -> bool:
    return len(np.unique(boxes.person_N)) < len(boxes)


def _counted(left_out: Mapping[str, int]) -> str:
    """
    >>> _counted({"without an area": 2, "without an id": 1200})
    '1,200 without an id, 2 without an area'
    """
    return ", ".join(f"{number:,} {reason}" for reason, number in Counter(left_out).most_common()) or "none is left out"


def _chosen(video: Video, camera: int, selection: Selection) -> _Chosen:
    boxes, left_out = _usable(video, selection)
    boxes = boxes.select(np.lexsort((boxes.frame_N, boxes.person_N)))
    tracklet_N = _tracklets(boxes, video.frames_per_second)
    frames = np.unique(boxes.frame_N)
    kept = np.isin(boxes.frame_N, frames[:: selection.every])
    left_out += Counter({BETWEEN: int((~kept).sum())})
    return _Chosen(video, camera, boxes.select(kept), tracklet_N[kept], +left_out)


def _usable(video: Video, selection: Selection) -> tuple[Boxes, "Counter[str]"]:
    """The boxes of people that can be cut, and how many others there are."""
    boxes, left_out = read_boxes(video.boxes_file), Counter[str]()
    if (boxes.person_N < 0).all():
        raise InputError(
            f"{video.boxes_file} has no identities: every id is {boxes.person_N[0]}, as in detections; name the "
            "folder of a tracker's output with --data.tracks"
        )
    _check_frame_0(video, boxes)

    def without(reason: str, out_N: Bools) -> Boxes:
        left_out[reason] += int(out_N.sum())
        return boxes.select(~out_N)

    boxes = without(NO_ID, boxes.person_N < 0)
    boxes = without(IGNORED, ~boxes.considered_N)
    boxes = without(NO_AREA, (boxes.box_N4[:, 2] <= 0) | (boxes.box_N4[:, 3] <= 0))
    boxes = without(NO_FRAME, ~np.isin(boxes.frame_N, list(video.frames)))
    boxes = without(LOW, boxes.box_N4[:, 3] < selection.min_height_px)
    boxes = without(HIDDEN, (boxes.visibility_N >= 0) & (boxes.visibility_N < selection.min_visibility))
    return boxes, left_out


def _check_frame_0(video: Video, boxes: Boxes) -> None:
    """Raise InputError for frames that are counted from 0 in the boxes but not in the images."""
    early = np.flatnonzero(boxes.frame_N < min(video.frames))
    if len(early) and boxes.frame_N[early].min() <= 0:
        raise InputError(
            f"{video.boxes_file}, line {boxes.line_N[early[0]]}: frame {boxes.frame_N[early[0]]}, but the first image "
            f"in {next(iter(video.frames.values())).parent} is {min(video.frames)}: frames are counted from 1; add 1 "
            "to each"
        )


def _tracklets(boxes: Boxes, frames_per_second: float) -> Ints:
    """The tracklet of each box, by person and frame: one ends when the person is out of sight for over a second."""
    other_person = np.diff(boxes.person_N) != 0
    out_of_sight = np.diff(boxes.frame_N) > max(frames_per_second, 1)
    return np.concatenate([[0], np.cumsum(other_person | out_of_sight)])[: len(boxes)].astype(np.int64)


def _images(chosen: Sequence[_Chosen], paths: Mapping[str, Path], shared_ids: bool) -> list[ImageFile]:
    """The crops that were cut, by person, camera and frame; people and tracklets are numbered within the set."""
    found: list[tuple[tuple[int, int], int, ImageFile]] = []
    first_tracklet = 0
    for one in chosen:
        for row in range(len(one.boxes)):
            path = paths.get(one.region(row).name)
            if path is None:
                continue
            person, frame = int(one.boxes.person_N[row]), int(one.boxes.frame_N[row])
            name = f"{one.video.name}_{person:04d}_{frame:06d}.png"
            tracklet = first_tracklet + int(one.tracklet_N[row])
            image = ImageFile(path, name, 0, one.camera, (), tracklet, frame)
            found.append(((0 if shared_ids else one.camera, person), one.camera, image))
        first_tracklet += int(one.tracklet_N[-1]) + 1 if len(one.boxes) else 0
    numbers = {key: number for number, key in enumerate(sorted({key for key, _, _ in found}), 1)}
    found.sort(key=lambda entry: (entry[0], entry[1], entry[2].time))
    return [image._replace(pid=numbers[key]) for key, _, image in found]
