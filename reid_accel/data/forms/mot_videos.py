"""The sequences of a MOTChallenge set: where their frames and boxes are. No image is opened."""

import configparser
import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reid_accel.data.listing import list_images
from reid_accel.errors import InputError, listed, shortened
from reid_accel.files import is_utf8, read_text, sha256, shown

ANNOTATION, DETECTIONS, INFO, FRAMES = "gt/gt.txt", "det/det.txt", "seqinfo.ini", "img1"
FRAMES_PER_SECOND = 30.0
DEPTH = 3  # of folders in the root that are searched: train/MOT17-02-DPM, train/S01/c001


@dataclass(frozen=True)
class Video:
    """A sequence. frames: the image of each frame number."""

    name: str
    folder: Path
    boxes_file: Path
    frames: Mapping[int, Path]
    frames_per_second: float


def find_videos(root: Path, tracks: Path | None = None) -> tuple[list[Video], list[str]]:
    """The sequences of a set, sorted by path, and warnings about those without boxes and those that are copies.

    tracks: a folder with a tracker's output, SEQUENCE.txt each, in place of the annotations.
    Raises InputError if there is no sequence with boxes.
    """
    if not root.is_dir():
        raise InputError(f"there is no folder {root}; set --data.root to a MOTChallenge sequence or a folder of them")
    folders = list(_sequences(root, DEPTH))
    if not folders:
        raise InputError(
            f"{root} has no MOTChallenge sequence: expected folders with {FRAMES}/000001.jpg ... and {ANNOTATION}; "
            f"found {listed(sorted(entry.name for entry in root.iterdir())) or 'nothing'}"
        )
    names = _names(folders, root)
    files = _boxes_files(names, tracks)
    place = f"{tracks.name}/SEQUENCE.txt" if tracks else ANNOTATION  # reports show it: no folder above
    without = [_relative(folder, root) for folder in folders if folder not in files]
    if not files:
        raise InputError(f"none of the {len(folders)} sequences in {root} has a file of boxes ({place})")
    warnings = [f"{len(without)} sequences are left out, since they lack {place}: {listed(without)}"] if without else []
    videos = [_video(folder, names[folder], path) for folder, path in files.items()]
    return _without_copies(videos, warnings)


def _sequences(folder: Path, depth: int) -> Iterator[Path]:
    """The folders with frames or boxes, in and below a folder; none is inside of another. Links are followed."""
    if any((folder / part).exists() for part in (FRAMES, ANNOTATION, INFO)):
        yield folder
    elif depth > 0:
        for entry in sorted(folder.iterdir()):
            if entry.is_dir() and not entry.name.startswith("."):
                yield from _sequences(entry, depth - 1)


def _boxes_files(names: Mapping[Path, str], tracks: Path | None) -> dict[Path, Path]:
    """Each sequence's file of boxes: a tracker's, else the annotation, else, where no sequence has one, detections."""
    if tracks is not None:
        candidates = [{folder: tracks / f"{name}.txt" for folder, name in names.items()}]
    else:
        candidates = [{folder: folder / file for folder in names} for file in (ANNOTATION, DETECTIONS)]
    there = [{folder: path for folder, path in paths.items() if os.path.lexists(path)} for paths in candidates]
    return next(filter(None, there), {})


def _relative(folder: Path, root: Path) -> str:
    return folder.resolve().name if folder == root else folder.relative_to(root).as_posix()


def _names(folders: Sequence[Path], root: Path) -> dict[Path, str]:
    """A name for each sequence: that of its folder, or the path from the root where folders share their name."""
    paths = [_relative(folder, root) for folder in folders]
    last = [path.rsplit("/", 1)[-1] for path in paths]
    names = last if len(set(last)) == len(last) else [path.replace("/", "-") for path in paths]
    for name in names:
        if not is_utf8(name):
            raise InputError(f"the folder name {shown(name)} is not UTF-8; rename it")
    return dict(zip(folders, names, strict=True))


def _video(folder: Path, name: str, boxes_file: Path) -> Video:
    info = _info(folder / INFO)
    frames_folder = folder / info.get("imdir", FRAMES)
    if frames_folder.parent != folder or not info.get("imdir", FRAMES).strip("."):
        raise InputError(f"{folder / INFO}: imDir must be the name of a folder beside it, got {info['imdir']!r}")
    return Video(name, folder, boxes_file, _frames(frames_folder), _frame_rate(folder / INFO, info))


def _info(path: Path) -> dict[str, str]:
    """The settings of a `seqinfo.ini`; none if there is no such file."""
    if not os.path.lexists(path):
        return {}
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(read_text(path).removeprefix("\ufeff"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (configparser.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not an INI file: {shortened(error, 200)}") from error
    return dict(parser["Sequence"]) if "Sequence" in parser else {}


def _frame_rate(path: Path, info: Mapping[str, str]) -> float:
    text = info.get("framerate", str(FRAMES_PER_SECOND))
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise InputError(f"{path}: frameRate must be a number above 0, got {shortened(text)!r}")
    return rate


def _frames(folder: Path) -> dict[int, Path]:
    """The images of a folder by the number that is their name."""
    frames: dict[int, Path] = {}
    for path in list_images(folder):
        if not (path.stem.isascii() and path.stem.isdigit() and len(path.stem) < 19):
            continue
        number = int(path.stem)
        if number in frames:
            raise InputError(f"{frames[number]} and {path} are both frame {number}: remove one of them")
        frames[number] = path
    if not frames:
        raise InputError(f"no image in {folder} is named by its frame number (000001.jpg)")
    return frames


def _without_copies(videos: Sequence[Video], warnings: list[str]) -> tuple[list[Video], list[str]]:
    """Without later copies of a video, of which MOT17 has three each: their people would be counted again."""
    first: dict[str, Video] = {}
    copies = [video.name for video in videos if first.setdefault(_content(video), video) is not video]
    if copies:
        warnings = [*warnings, f"{len(copies)} sequences are left out as copies of others: {listed(copies)}"]
    return list(first.values()), warnings


def _content(video: Video) -> str:
    """What a copy of a video has in common with it: boxes, names and sizes of the frames, and the first frame."""
    sizes = [f"{number} {_size(path)}" for number, path in sorted(video.frames.items())]
    digest = hashlib.sha256("\n".join(sizes).encode())
    try:
        digest.update(sha256(video.boxes_file).encode())
    except OSError as error:
        raise InputError(f"{video.boxes_file} cannot be read: {error.strerror}") from error
    with suppress(OSError):  # reported when the frame is read
        digest.update(sha256(video.frames[min(video.frames)]).encode())
    return digest.hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a dangling link, which is reported when the frame is read
        return -1
