"""The images of a run: listed, decoded and labeled."""

import logging
from pathlib import Path

from reid_accel.config.schema import DataConfig, added_set
from reid_accel.data.cache_dir import cache_folder, writable_cache
from reid_accel.data.checks import check_added_listing, check_listing, check_people
from reid_accel.data.concat import SplitListing, joined
from reid_accel.data.crop_cache import Decoding
from reid_accel.data.dataset import ImageDataset, SkippedImage, decode_images
from reid_accel.data.images import ImageSize
from reid_accel.data.listing import Listing
from reid_accel.data.sets import list_dataset
from reid_accel.data.splits import OpenedData
from reid_accel.distributed.machine import is_local_main, local_main_first
from reid_accel.errors import InputError

logger = logging.getLogger(__name__)


def open_data(
    config: DataConfig,
    size: ImageSize,
    *,
    for_training: bool = True,
    listing: Listing | None = None,
) -> OpenedData:
    """List a data set and decode its images, once per machine. Every process must call it.

    for_training: if false, the training images of a set with labeled test images are not decoded and have labels
    only; those of the course layout are decoded, since its held-out images are scored. listing: overrides the main set
    that `config` names.
    Raises InputError when the set can't be used.
    """
    cache_dir = cache_folder(config.cache_dir)
    with local_main_first():  # draws a synthetic set
        main, train, warnings = _list_sets(config, listing, cache_dir)
    decoding = Decoding(size, cache_dir, config.on_bad_image, verify=is_local_main())
    splits: dict[str, ImageDataset] = {}
    skipped: list[SkippedImage] = []
    for split in main.splits:
        listed = train if split == "train" else SplitListing(main.splits[split], main.groups, main.fingerprint)
        if split == "train" and not for_training and "queries" not in main.splits:
            splits[split] = ImageDataset.of_files(listed.images, listed.groups, None)
            continue
        with local_main_first():
            splits[split], unreadable = decode_images(
                listed.images,
                listed.groups,
                decoding,
                fingerprint=f"{listed.fingerprint}/{split}",
                title=f"split {split}",
            )
        skipped += unreadable
    if skipped:
        warnings.append(f"{len(skipped)} images cannot be read and are left out; report.json lists them")
    once = tuple(dict.fromkeys(warnings))
    for warning in once:
        logger.warning(warning)
    return OpenedData(
        splits,
        once,
        tuple(skipped),
        train.added_people,
        added_images=train.added_images,
        edition=main.edition,
        validation=main.validation,
        own_table=listing is not None,
        camera_set="" if listing is not None else config.camera_set,
        numbered_apart=main.numbered_apart,
        people=main.people,
    )


def _list_sets(config: DataConfig, listing: Listing | None, cache_dir: Path) -> tuple[Listing, SplitListing, list[str]]:
    """The main set, the training images of all sets, and the warnings of all sets."""
    if listing is None:
        listing = list_dataset(config, cache_dir=writable_cache(cache_dir))
    check_listing(listing)
    others: dict[str, Listing] = {}
    for entry in config.also:
        added = added_set(entry, "data.also", config)
        other = others[f"{added.name}:{Path(added.root or '').name}"] = list_dataset(added, cache_dir=cache_dir)
        check_added_listing(entry, other)
        check_people(entry, other, listing)
    if len(others) < len(config.also):
        raise InputError(f"data.also has two folders of the same name: {', '.join(config.also)}")
    warnings = [warning for one in (listing, *others.values()) for warning in one.warnings]
    train = joined(listing, others)
    return listing, train, [*warnings, *train.notes]
