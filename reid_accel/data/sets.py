"""Data sets by their settings: sets in a known form, and the synthetic sets."""

from dataclasses import replace
from pathlib import Path

from reid_accel.config.data import DataConfig
from reid_accel.data.forms.layouts import Course, Layout, MarketLayout
from reid_accel.data.left_out import left_out_warnings
from reid_accel.data.listing import Listing, nobody_warnings
from reid_accel.data.reading import place_of, read_dataset
from reid_accel.data.scan import forget_entries
from reid_accel.synthetic.market import SyntheticMarket, cached_synthetic_market

SYNTHETIC: dict[str, tuple[str, Layout]] = {
    "synthetic": ("market", MarketLayout()),
    "synthetic-course": ("course", Course()),
}
"""For each synthetic set: its subfolder and its layout."""


def list_dataset(config: DataConfig, *, cache_dir: Path, synthetic: SyntheticMarket | None = None) -> Listing:
    """List the set that the settings name; a synthetic set is drawn into `cache_dir` on first use.

    synthetic: instead of the one that the settings describe. The listing's warnings name what it leaves out.
    Raises InputError when the name is unknown or the folder isn't in the set's layout.
    """
    if config.name in SYNTHETIC:
        folder, layout = SYNTHETIC[config.name]
        drawn = SyntheticMarket(train_identities=config.synthetic_identities, seed=config.synthetic_seed)
        place = cached_synthetic_market(synthetic or drawn, cache_dir) / folder
        listing = layout.read(place)
    else:
        place, listing = place_of(config), read_dataset(config)
    paths = {split: [image.path for image in images] for split, images in listing.splits.items()}
    missing = (*left_out_warnings(place, paths), *nobody_warnings(listing.splits["train"]))
    forget_entries(place)
    return replace(listing, warnings=(*listing.warnings, *missing))
