"""The forms in which data sets come: which layout reads the set that the settings name, and where it is.

A form with settings is a frozen dataclass in a module of its own, which `layout_of` builds from them. The listing of a
set without a split has the one split UNSPLIT (or train and test, if query and gallery aren't told apart).
"""

from dataclasses import replace
from pathlib import Path

from reid_accel.config.data import DataConfig
from reid_accel.data.cache_dir import cache_folder
from reid_accel.data.forms.attribute_sets import DukeAttributes, Pa100k, Peta, Rap
from reid_accel.data.forms.folders import Folders
from reid_accel.data.forms.hub import Hub
from reid_accel.data.forms.layouts import Layout, layout_named
from reid_accel.data.forms.table_file import TableFile
from reid_accel.data.forms.vehicleid import VehicleId
from reid_accel.data.forms.veri import Veri
from reid_accel.data.listing import UNSPLIT, Listing
from reid_accel.data.people_split import lacks_queries, split_people
from reid_accel.errors import InputError, listed


def layout_of(config: DataConfig) -> Layout:
    """The layout of the set that the settings name, with its settings. Raises InputError if the name is unknown."""
    if config.name == "veri":
        return Veri()
    if config.name == "vehicleid":
        return VehicleId(config.test_vehicles, config.split_seed)
    if config.name == "mot":
        return _mot(config)
    if config.name == "hub":
        return Hub(cache_folder(config.cache_dir), config.column_names)
    if config.name == "folders":
        return Folders(config.camera_pattern)
    if config.name == "duke-attributes":
        return DukeAttributes()
    if config.name == "pa100k":
        return Pa100k()
    if config.name == "peta":
        return Peta(partition=config.partition)
    if config.name == "rap":
        return Rap(partition=config.partition)
    if config.name == "table":
        return TableFile(config.column_names, config.attributes, config.root if config.table is not None else None)
    return layout_named(config.name)


def _mot(config: DataConfig) -> Layout:
    from reid_accel.data.forms.mot import Mot, Selection  # imported late, since it imports torch

    tracks = None if config.tracks is None else Path(config.tracks)
    selection = Selection(config.every, config.min_height_px, config.min_visibility)
    return Mot(cache_folder(config.cache_dir), selection, config.shared_ids, tracks, config.on_bad_image)


def place_of(config: DataConfig) -> Path:
    """The folder or file of the set. Raises InputError if it is not named."""
    if config.name == "table" and (config.table or config.root) is None:
        raise InputError("data.root must name the table, e.g. --data.name table --data.root path/to/people.csv")
    if config.table is not None:
        return Path(config.table)
    if config.root is None:
        of_hub = ", or its name on the hub" if config.name == "hub" else ""
        raise InputError(
            f"data.root must name the folder of {config.name}{of_hub}, e.g. --data.root path/to/{config.name}"
        )
    return Path(config.root)


def check_dataset(config: DataConfig) -> None:
    """Raise InputError unless folders, lists and file names of the set are those of its layout; opens no image."""
    layout_of(config).check(place_of(config))


def read_dataset(config: DataConfig) -> Listing:
    """The listing of a set that isn't drawn; a layout's listing that lacks queries is split here.

    Raises InputError unless the set is in the layout that the settings name.
    """
    listing = layout_of(config).read(place_of(config))
    if not lacks_queries(listing.splits):
        if config.split is not None:
            raise InputError(
                f"data.split {config.split} is for a set without a split, but this one has {listed(listing.splits)}: "
                "leave it out"
            )
        return listing
    split = split_people(listing, config.people_share, config.split_seed)
    if config.split is not None or UNSPLIT not in listing.splits:
        return split
    return replace(split, warnings=(*split.warnings, _default_split(config, split)))


def _default_split(config: DataConfig, listing: Listing) -> str:
    train = len({image.pid for image in listing.splits["train"]})
    test = len({image.pid for image in listing.splits["query"]})
    chosen = f"--data.split people:{config.people_share:g} --data.split-seed {config.split_seed}"
    return (
        f"the set has no split: {train:,} people are trained on, {test:,} others tested, as with {chosen}; `reid-accel "
        "split` writes it as a table to keep and share"
    )
