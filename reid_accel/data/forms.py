"""The forms in which data sets come: which layout reads the set that the settings name, and where it is.

A form with settings is a frozen dataclass in a module of its own, which `layout_of` builds from them.
"""

from pathlib import Path

from reid_accel.config.data import DataConfig
from reid_accel.data.layouts import Layout, layout_named
from reid_accel.data.listing import Listing
from reid_accel.data.vehicleid import VehicleId
from reid_accel.data.veri import Veri
from reid_accel.errors import InputError


def layout_of(config: DataConfig) -> Layout:
    """The layout of the set that the settings name, with its settings. Raises InputError if the name is unknown."""
    if config.name == "veri":
        return Veri()
    if config.name == "vehicleid":
        return VehicleId(config.test_vehicles)
    return layout_named(config.name)


def place_of(config: DataConfig) -> Path:
    """The folder or file of the set. Raises InputError if it is not named."""
    if config.root is None:
        raise InputError(f"data.root must name the folder of {config.name}, e.g. --data.root path/to/{config.name}")
    return Path(config.root)


def check_dataset(config: DataConfig) -> None:
    """Raise InputError unless folders, lists and file names of the set are those of its layout; opens no image."""
    layout_of(config).check(place_of(config))


def read_dataset(config: DataConfig) -> Listing:
    """The listing of a set that isn't drawn. Raises InputError unless it is in the layout that the settings name."""
    return layout_of(config).read(place_of(config))
