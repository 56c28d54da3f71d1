"""Data sets by name: folders in a known layout, and the synthetic sets."""

from dataclasses import replace
from pathlib import Path

from reid_accel.data.layouts import LAYOUTS, Course, Layout, MarketLayout, dataset_folder, layout_named
from reid_accel.data.left_out import left_out_warnings
from reid_accel.data.listing import Listing, nobody_warnings
from reid_accel.synthetic.market import SyntheticMarket, cached_synthetic_market

SYNTHETIC: dict[str, tuple[str, Layout]] = {
    "synthetic": ("market", MarketLayout()),
    "synthetic-course": ("course", Course()),
}
"""For each synthetic set: its subfolder and its layout."""

DATASET_NAMES = (*(layout.name for layout in LAYOUTS), *SYNTHETIC)


def list_dataset(
    name: str, root: str | Path | None, *, cache_dir: Path, synthetic: SyntheticMarket | None = None
) -> Listing:
    """List the set `name` in the folder `root`; a synthetic set is drawn into `cache_dir` on first use.

    The listing's warnings name what it leaves out.
    Raises InputError when the name is unknown or the folder isn't in the set's layout.
    """
    if name in SYNTHETIC:
        folder, layout = SYNTHETIC[name]
        place = cached_synthetic_market(synthetic or SyntheticMarket(), cache_dir) / folder
    else:
        layout, place = layout_named(name), dataset_folder(name, root)
    listing = layout.read(place)
    paths = {split: [image.path for image in images] for split, images in listing.splits.items()}
    missing = (*left_out_warnings(place, paths), *nobody_warnings(listing.splits["train"]))
    return replace(listing, warnings=(*listing.warnings, *missing))
