"""The files that a listing of images passes over: they are counted and named."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from reid_accel.errors import listed

SYSTEM_FILES = ("thumbs.db", "desktop.ini", ".ds_store")
SHOWN_KINDS = 6


def left_out_warnings(root: Path, splits: Mapping[str, Sequence[Path]]) -> tuple[str, ...]:
    """A warning for each folder of a data set with files that no split contains.

    Reports and model cards show it, so it names no folder above the data set's.
    """
    every = {str(path) for paths in splits.values() for path in paths}
    tops = {Path(os.path.commonpath([path.parent for path in paths])) for paths in splits.values() if paths}
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
    kinds = left_out(place, {str(path) for path in paths}) if place.is_dir() else ""
    return f"files in {place} are left out: {kinds}" if kinds else None


def left_out(folder: Path, images: Collection[str]) -> str:
    """The files below a folder that aren't among the images, by kind: "2 .avif (a.avif, b.avif)"; empty if none."""
    folders_of_images = {os.path.dirname(path) for path in images}
    names_of_kind: dict[str, list[str]] = {}
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = os.path.join(parent, name)
            kind = _kind_of_folder(path) if name in folders else _kind_of_file(name)
            if kind is not None and path not in images and path not in folders_of_images:
                names_of_kind.setdefault(kind, []).append(os.path.relpath(path, folder))
        folders[:] = [name for name in folders if not name.startswith(".")]
    most_first = sorted(names_of_kind.items(), key=lambda kind: (-len(kind[1]), kind[0]))
    counted = [f"{len(names):,} {kind} ({listed(sorted(names), 3)})" for kind, names in most_first]
    more = f", and {len(counted) - SHOWN_KINDS:,} more kinds" if len(counted) > SHOWN_KINDS else ""
    return ", ".join(counted[:SHOWN_KINDS]) + more


def _kind_of_folder(path: str) -> str | None:
    """None for a folder whose files are looked at one by one."""
    if os.path.basename(path).startswith("."):
        return "hidden folder"
    return "linked folder" if os.path.islink(path) else None


def _kind_of_file(name: str) -> str | None:
    """None for files that operating systems put into folders."""
    if name.lower() in SYSTEM_FILES:
        return None
    ending = Path(name).suffix.lower()
    if name.startswith("."):
        return f"hidden {ending}".strip()
    return ending or "without an ending"
