"""The files that a listing of images passes over: they are counted and named."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from reid_accel.data.scan import entries_of
from reid_accel.errors import listed

SYSTEM_FILES = ("thumbs.db", "desktop.ini", ".ds_store")
SHOWN_KINDS = 6


def left_out_warnings(root: Path, splits: Mapping[str, Sequence[Path]]) -> tuple[str, ...]:
    """A warning for each folder of a data set with files that no split contains.

    Reports and model cards show it, so it names no folder above the data set's.
    """
    of_split = [names_by_folder(paths) for paths in splits.values() if paths]
    every: dict[str, set[str]] = {}
    for names in of_split:
        for folder, some in names.items():
            every[folder] = every.get(folder, set()) | some
    tops = {Path(os.path.commonpath(names)) for names in of_split}
    found = {
        top: left_out(top, every)
        for top in sorted(tops)
        if top.is_relative_to(root) and not any(other in tops for other in top.parents)
    }
    return tuple(
        f"files in {Path(root.name, top.relative_to(root)).as_posix()} are left out: {kinds}"
        for top, kinds in found.items()
        if kinds
    )


def left_out_warning(place: Path, paths: Sequence[Path]) -> str | None:
    """A warning if there are files below a folder of images that aren't among `paths`."""
    kinds = left_out(place, names_by_folder(paths)) if place.is_dir() else ""
    return f"files in {place} are left out: {kinds}" if kinds else None


def names_by_folder(paths: Iterable[Path]) -> dict[str, set[str]]:
    """The file names of images in each folder."""
    names: dict[str, set[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        names.setdefault(folder, set()).add(name)
    return names


def left_out(folder: Path, images: Mapping[str, Collection[str]]) -> str:
    """The files below a folder that aren't among the images, by kind: "2 .avif (a.avif, b.avif)"; empty if none.

    images: see `names_by_folder`.
    """
    names_of_kind: dict[str, list[str]] = {}
    for path, kind in _other_entries(str(folder), images):
        if path not in images:
            names_of_kind.setdefault(kind, []).append(os.path.relpath(path, folder))
    most_first = sorted(names_of_kind.items(), key=lambda kind: (-len(kind[1]), kind[0]))
    counted = [f"{len(names):,} {kind} ({listed(sorted(names), 3)})" for kind, names in most_first]
    more = f", and {len(counted) - SHOWN_KINDS:,} more kinds" if len(counted) > SHOWN_KINDS else ""
    return ", ".join(counted[:SHOWN_KINDS]) + more


def _other_entries(folder: str, images: Mapping[str, Collection[str]]) -> Iterator[tuple[str, str]]:
    """The path and kind of what is below a folder and isn't among the images; folders that can't be read are empty."""
    try:
        entries = entries_of(folder)
    except OSError:
        return
    known = images.get(folder, ())
    for name in entries.files:
        kind = None if name in known else _kind_of_file(name)
        if kind is not None:
            yield os.path.join(folder, name), kind
    for name in entries.folders:
        path = os.path.join(folder, name)
        if name.startswith("."):
            yield path, "hidden folder"
        elif name in entries.links:
            yield path, "linked folder"
        else:
            yield from _other_entries(path, images)


def _kind_of_file(name: str) -> str | None:
    """None for files that operating systems put into folders."""
    if name.lower() in SYSTEM_FILES:
        return None
    ending = Path(name).suffix.lower()
    if name.startswith("."):
        return f"hidden {ending}".strip()
    return ending or "without an ending"
