"""The image sets of a run: which images train, validate and test."""

from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
from accelerate import Accelerator

from reid_accel.config.schema import DataConfig, name_and_folder
from reid_accel.data.builders import load
from reid_accel.data.concat import joined
from reid_accel.data.crop_cache import Say
from reid_accel.data.dataset import (
    ImageDataset,
    Ints,
    SkippedImage,
    identities_of,
    listing_of,
    open_image_dataset,
    split_by_person,
)
from reid_accel.data.images import ImageSize
from reid_accel.errors import InputError
from reid_accel.synthetic.market import SyntheticMarket


@dataclass(frozen=True)
class TrainingSet:
    """The training images with their contiguous identity labels."""

    images: ImageDataset
    identity_N: Ints

    @property
    def num_identities(self) -> int:
        return int(self.identity_N.max()) + 1


@dataclass(frozen=True)
class OpenedData:
    """A data set's splits as image sets, and what was odd about them."""

    splits: dict[str, ImageDataset]
    warnings: tuple[str, ...]
    skipped: tuple[SkippedImage, ...]
    added_people: int = 0  # training persons up to this number are those of `data.also`

    @property
    def labeled_test(self) -> bool:
        """Query and gallery with labels (Market layout), rather than queries and test without (course)."""
        return "gallery" in self.splits

    def fingerprint(self) -> str:
        """A hash of all names and labels."""
        return "-".join(self.splits[split].fingerprint()[:8] for split in sorted(self.splits))


def load_tables(config: DataConfig, accelerator: Accelerator, warn: Say | None = None) -> datasets.DatasetDict:
    """The data set's tables; the first process of each machine prepares what the others then find."""
    with accelerator.local_main_process_first():
        return load(
            config.name,
            config.root,
            cache_dir=config.cache_dir,
            synthetic=SyntheticMarket(train_identities=config.synthetic_identities, seed=config.synthetic_seed),
            report_warning=warn,
        )


def load_others(config: DataConfig, accelerator: Accelerator, warn: Say | None = None) -> dict[str, datasets.Dataset]:
    """The training splits of the further sets, by what they are called in names: set and folder."""
    others = {}
    for entry in config.also:
        name, root = name_and_folder(entry, "data.also")
        with accelerator.local_main_process_first():
            others[f"{name}:{Path(root).name}"] = load(name, root, cache_dir=config.cache_dir, report_warning=warn)[
                "train"
            ]
    if len(others) < len(config.also):
        raise InputError(f"data.also names two folders of one name: {', '.join(config.also)}")
    return others


def open_data(config: DataConfig, size: ImageSize, accelerator: Accelerator, say: Say) -> OpenedData:
    """Load a data set and decode its images, once per machine. Every process calls it.

    Raises InputError when the set can't be used.
    """
    warnings: list[str] = []
    tables = load_tables(config, accelerator, warnings.append)
    others = load_others(config, accelerator, warnings.append)
    fingerprints = {split: listing_of(table) for split, table in tables.items()}
    added_people = 0
    if others:
        fingerprints["train"] = "+".join([fingerprints["train"], *map(listing_of, others.values())])
        tables["train"], added_people = joined(tables["train"], others)
    cache_dir = Path(config.cache_dir).expanduser()
    splits: dict[str, ImageDataset] = {}
    skipped: list[SkippedImage] = []
    for split, table in tables.items():

        def progress(done: int, total: int, split: str = split) -> None:
            if accelerator.is_main_process and (done == total or done % 4096 == 0):
                say(f"decoded {done:,} of {total:,} images of {split}")

        with accelerator.local_main_process_first():
            splits[split], bad = open_image_dataset(
                table,
                size,
                on_bad_image=config.on_bad_image,
                cache_dir=cache_dir,
                fingerprint=fingerprints[split],
                verify=accelerator.is_local_main_process,
                progress=progress,
                say=warnings.append,
            )
        skipped += bad
    if skipped:
        warnings.append(f"{len(skipped)} images could not be read and are left out; report.json lists them")
    once = tuple(dict.fromkeys(warnings))
    for warning in once:
        say(f"[yellow]warning:[/] {warning}")
    return OpenedData(splits, once, tuple(skipped), added_people)


def require_matches(data: OpenedData) -> None:
    """Raise InputError when no query could find anybody, before hours of training end in a score of nothing."""
    if not data.labeled_test:
        return
    query, gallery = data.splits["query"], data.splits["gallery"]
    cameras_of: dict[int, set[int]] = {}
    for pid, camera in zip(gallery.pid_N.tolist(), gallery.camera_N.tolist(), strict=True):
        cameras_of.setdefault(pid, set()).add(camera)
    for pid, camera in zip(query.pid_N.tolist(), query.camera_N.tolist(), strict=True):
        if pid > 0 and cameras_of.get(pid, set()) - {camera}:
            return
    raise InputError(
        f"none of the {len(query)} queries shows a person whom another camera saw in the {len(gallery)} gallery "
        "images: nothing could be scored. Are query/ and bounding_box_test/ from the same set?"
    )


def split_training_images(data: OpenedData, validation_share: float) -> tuple[TrainingSet, ImageDataset | None]:
    """Training images with identity labels, and the persons held out for validation (None with a share of 0).

    Those of further sets (`data.also`) all train: the share is one of the main set's images.
    Raises InputError when fewer than two identities are left to train on, or none to validate on.
    """
    train = data.splits["train"]
    people = train.select(np.flatnonzero(train.pid_N > 0))
    is_added = people.pid_N <= data.added_people
    own = np.flatnonzero(~is_added)
    kept, left_out = split_by_person(people.pid_N[own], 1 - validation_share)
    held_out = own[left_out]
    images = people.select(np.concatenate([np.flatnonzero(is_added), own[kept]]))
    pids, identity_N = identities_of(images.pid_N)
    if len(pids) < 2:
        raise InputError(
            f"there are {len(images)} training images of {len(pids)} identities; telling people apart needs at "
            "least two identities (lower --data.validation-share, or add people)"
        )
    if validation_share > 0 and not len(held_out):
        raise InputError(
            f"--data.validation-share {validation_share} holds out nobody from {len(pids)} identities; raise it, "
            "or set it to 0 to train on all images and keep the last model"
        )
    return TrainingSet(images, identity_N), people.select(held_out) if len(held_out) else None
