"""Data sets by name: folders in a known layout, and the synthetic sets."""

from pathlib import Path

from reid_accel.data.layouts import LAYOUTS, Course, Layout, MarketLayout, dataset_folder, layout_named
from reid_accel.data.listing import Listing
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

    Raises InputError when the name is unknown or the folder isn't in the set's layout.
    """
    if name in SYNTHETIC:
        folder, layout = SYNTHETIC[name]
        return layout.read(cached_synthetic_market(synthetic or SyntheticMarket(), cache_dir) / folder)
    return layout_named(name).read(dataset_folder(name, root))
