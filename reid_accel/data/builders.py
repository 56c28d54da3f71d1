"""HF Datasets builders of the re-ID sets, and `load`, the one way to get any of them.

Every row is: image (decoded lazily from its file), name, pid, camera, row (its place in the sorted listing of
the split), and one ClassLabel column per attribute group (-1: not known).
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets

from reid_accel.data.cache_dir import writable_cache
from reid_accel.data.layouts import Listing, attributes_of, check_layout, list_course, list_market, list_msmt17
from reid_accel.errors import InputError
from reid_accel.synthetic.market import SyntheticMarket, cached_synthetic_market

CACHE_ROOT = Path("~/.cache/reid_accel")
ReadListing = Callable[[Path], Listing]
BASE_COLUMNS = ("image", "name", "pid", "camera", "row")


class ReIDConfig(datasets.BuilderConfig):
    """Names the root and the listing's fingerprint, so that a changed folder is a new cache entry.

    (A builder's own cache key looks at `data_dir` only by name and would give back the old rows.)
    """

    def __init__(self, root: str = "", fingerprint: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = root
        self.fingerprint = fingerprint


class _ReIDBuilder(datasets.GeneratorBasedBuilder):
    """What the builders share: a listing in, typed rows out."""

    BUILDER_CONFIG_CLASS = ReIDConfig
    VERSION = datasets.Version("1.0.0")

    read_listing: ReadListing

    def _listing(self) -> Listing:
        return _listing_once(type(self).read_listing, self.config.root, self.config.fingerprint)

    def _info(self) -> datasets.DatasetInfo:
        features: dict[str, Any] = {
            "image": datasets.Image(),
            "name": datasets.Value("string"),
            "pid": datasets.Value("int32"),
            "camera": datasets.Value("int16"),
            "row": datasets.Value("int32"),
        }
        for group in self._listing().groups:
            features[group.name] = datasets.ClassLabel(names=list(group.values))
        return datasets.DatasetInfo(features=datasets.Features(features))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        listing = self._listing()
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"listing": listing, "split": split})
            for split in listing.splits
        ]

    def _generate_examples(self, listing: Listing, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for row, image in enumerate(listing.splits[split]):
            values = zip(listing.groups, attributes_of(image, listing), strict=True)
            yield (
                row,
                {
                    "image": str(image.path.resolve()),
                    "name": image.name,
                    "pid": image.pid,
                    "camera": image.camera,
                    "row": row,
                    **{group.name: index for group, index in values},
                },
            )


class Market1501(_ReIDBuilder):
    """Market-1501 (Zheng et al., ICCV 2015) with the attributes of Lin et al. 2019: train, query, gallery."""

    read_listing = staticmethod(functools.partial(list_market, expect_market1501=True))


class MarketLayout(_ReIDBuilder):
    """Any set in Market-1501's folder layout (CUHK03-NP, DukeMTMC-reID, your own): train, query, gallery."""

    read_listing = staticmethod(list_market)


class Msmt17(_ReIDBuilder):
    """MSMT17 (Wei et al., CVPR 2018), either version, as it is distributed: train, query, gallery."""

    read_listing = staticmethod(list_msmt17)


class Course(_ReIDBuilder):
    """The course variant of Market-1501: labeled train, unlabeled queries and test."""

    read_listing = staticmethod(list_course)


@functools.lru_cache(maxsize=4)
def _listing_once(read_listing: ReadListing, root: str, fingerprint: str) -> Listing:
    """A listing for the several calls that one preparation makes; half a million files take seconds."""
    return read_listing(Path(root))


BUILDERS: dict[str, type[_ReIDBuilder]] = {
    "market1501": Market1501,
    "market-layout": MarketLayout,
    "msmt17": Msmt17,
    "course": Course,
}
SYNTHETIC_NAMES = ("synthetic", "synthetic-course")
DATASET_NAMES = (*BUILDERS, *SYNTHETIC_NAMES)


def load(
    name: str,
    root: str | Path | None = None,
    *,
    cache_dir: str | Path = CACHE_ROOT,
    synthetic: SyntheticMarket | None = None,
    report_warning: Callable[[str], None] | None = None,
) -> datasets.DatasetDict:
    """A re-ID set as a DatasetDict with the splits train, query, gallery (course: train, queries, test).

    name: market1501, market-layout, msmt17, course, synthetic (drawn by the package) or synthetic-course (the same
    pictures in the course's layout). root: the folder of the set; not needed for the synthetic ones.
    report_warning is called with each sentence about what looks odd in the folder.
    Raises InputError when the folder is missing, empty or in another layout.
    """
    cache = writable_cache(Path(cache_dir).expanduser(), report_warning)
    builder_class, folder = _builder_and_root(name, root, cache, synthetic)
    listing = builder_class.read_listing(folder)
    for warning in listing.warnings:
        if report_warning is not None:
            report_warning(warning)
    builder = builder_class(
        cache_dir=str(cache / "tables"),
        config_name=f"{name}-{listing.fingerprint}",
        root=str(folder),
        fingerprint=listing.fingerprint,
    )
    with without_progress_bars():
        builder.download_and_prepare()
        return builder.as_dataset()


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """A second's work; the library's bars would bury what matters."""
    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def _builder_and_root(
    name: str, root: str | Path | None, cache: Path, synthetic: SyntheticMarket | None
) -> tuple[type[_ReIDBuilder], Path]:
    if name in SYNTHETIC_NAMES:
        drawn = cached_synthetic_market(synthetic or SyntheticMarket(), cache)
        return (Course, drawn / "course") if name == "synthetic-course" else (MarketLayout, drawn / "market")
    if name not in BUILDERS:
        raise InputError(f"data.name must be one of {', '.join(DATASET_NAMES)}, got {name!r}")
    return BUILDERS[name], check_layout(name, root)
