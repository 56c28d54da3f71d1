"""Settings of the images: the data set, and how training images are augmented."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

from reid_accel.config.checks import check, check_choices, check_positive, expand_homes
from reid_accel.errors import InputError

DatasetName = Literal[
    "synthetic",
    "synthetic-course",
    "market1501",
    "market-layout",
    "msmt17",
    "msmt17-trainval",
    "course",
    "folders",
    "table",
    "veri",
    "vehicleid",
    "mot",
    "hub",
    "duke-attributes",
    "pa100k",
    "peta",
    "rap",
]


FORMS = ("market-layout", "folders", "table", "hub", "mot")
"""Names of forms that many sets have."""
SETTINGS_OF_FORMS = {
    "camera_pattern": ("folders",),
    "columns": ("table", "hub"),
    "attributes": ("table",),
    "table": ("table",),
    "every": ("mot",),
    "min_height_px": ("mot",),
    "min_visibility": ("mot",),
    "shared_ids": ("mot",),
    "tracks": ("mot",),
    "test_vehicles": ("vehicleid",),
}
"""The settings that only some forms have."""
COLUMNS = ("path", "person", "camera", "split", "tracklet", "time", "name")
"""The columns of a table file that have a meaning; all others are attributes."""
LABELS = ("image", *COLUMNS[1:])
"""The same of a table with images."""
NO_ATTRIBUTES = "none"
NO_CAMERAS = "none"
PEOPLE = "people:"
DEFAULT_PEOPLE_SHARE = 0.5


def _is_share(text: str) -> bool:
    try:
        return 0 < float(text) < 1
    except ValueError:
        return False


def name_and_folder(entry: str, setting: str) -> tuple[DatasetName, str]:
    """The two parts of an additional data set, NAME:FOLDER. Raises InputError for anything else."""
    name, colon, folder = entry.partition(":")
    known = get_args(DatasetName)
    check(bool(colon) and name in known, setting, f"NAME:FOLDER with NAME one of {', '.join(known)}", entry)
    return cast(DatasetName, name), folder


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The data set and how it is read."""

    name: DatasetName = "synthetic"
    """Data set: your own pictures in `folders` (one per person) or a `table`, `market1501`, `market-layout` (CUHK03-NP,
    DukeMTMC-reID, Occluded-Duke, P-DukeMTMC-reID, MARS, your own crops in that layout), `msmt17`
    (training on its train list alone, as Bag of Tricks and torchreid), `msmt17-trainval` (train and validation list, as
    TransReID and most since), `course`, the vehicles of `veri` (VeRi-776) or `vehicleid` (PKU VehicleID), the people
    in the frames of `mot` (MOTChallenge sequences, or a tracker's output), any image data set of the `datasets` library
    (`hub`), `duke-attributes` (DukeMTMC-reID with Lin et al.'s annotation), images with attributes but without
    identities (`pa100k`, `peta`, `rap` of version 1 or 2), or the pedestrians that this package draws: `synthetic`,
    `synthetic-course`."""
    title: str | None = None
    """Name of the data set in report and model card, e.g. "CUHK03-NP detected". Not set: `name`."""
    root: str | None = None
    """Folder of the data set (for `table` the table, for `hub` also its name on the hub); not used by the synthetic
    ones."""
    also: tuple[str, ...] = ()
    """Additional training sets, NAME:FOLDER each (`msmt17:path/to/MSMT17_V1`). Validation and test images are those of
    the main set only."""
    table: str | None = None
    """Of `table`: the table, if `root` is the folder of the images. Else `root` is the table, in the images' folder."""
    columns: tuple[str, ...] = ()
    """Of `table` and `hub`: columns whose names aren't the usual ones, as `path=file person=id` (`hub`: `image=img
    person=label`); also camera, split, tracklet, time and name."""
    attributes: tuple[str, ...] = ()
    """Of `table`: columns that are attributes; `none`: no column is. Not set: all columns without another
    meaning."""
    camera_pattern: str | None = None
    """Of `folders`: regular expression whose one group is the camera, searched in the file names (in the paths below
    the split's folder if it contains a `/`); `none`: no cameras. Not set: a person's sub-folders are cameras."""
    split: str | None = None
    """Of a set without train, query and gallery: people:SHARE trains on this share of the people and tests on the
    others (not set: people:0.5). A query is drawn per test person and camera; without cameras, per tracklet or by
    time."""
    split_seed: int = 0
    """Seed of `split`, and of the gallery images that `vehicleid` draws."""
    every: int = 10
    """Of `mot`: crops are cut out of every n-th frame that has boxes, since neighboring ones are nearly equal."""
    min_height_px: int = 32
    """Of `mot`: smallest height of a box, as far as it is in the frame."""
    min_visibility: float = 0.3
    """Of `mot`: smallest visible share of a person; where the boxes don't tell it, the share of the box that is in the
    frame."""
    shared_ids: bool = False
    """Of `mot`: an id is the same person in all sequences, as in multi-camera tracking. Not set: people of different
    sequences are different."""
    tracks: str | None = None
    """Of `mot`: folder with a tracker's output, SEQUENCE.txt each, instead of the sequences' gt/gt.txt."""
    partition: int = 1
    """Which of the five official partitions of `peta` or `rap` to train and score on; the literature uses the first."""
    on_bad_image: Literal["error", "skip"] = "error"
    """Unreadable images: stop with an error, or skip them and list them in report.json."""
    validation_share: float = 0.3
    """Fraction of the training images held out for validation, split by identity; the best model is chosen on them. 0:
    train on all images and keep the last model."""
    cache_dir: str = "~/.cache/reid_accel"
    """Cache folder for decoded images and drawn pedestrians."""
    device_share: float = 0.5
    """Keep the decoded training images in GPU memory if they fit into this fraction of the free memory; else prefetch
    them from the cache. Always prefetch: 0."""
    test_vehicles: int = 800
    """Test list of VehicleID: 800, 1600 or 2400 vehicles."""
    synthetic_identities: int = 200
    """Number of synthetic training identities. Sets of different sizes share identities: test a model on the set that
    it was trained on, or on one with another seed."""
    synthetic_seed: int = 0
    """Seed of the synthetic pedestrians."""

    @property
    def drawn(self) -> bool:
        """Whether all training images are pedestrians that this package draws."""
        return self.name.startswith("synthetic") and not self.also

    @property
    def column_names(self) -> dict[str, str]:
        """The given column of each label."""
        return dict(entry.split("=", 1) for entry in self.columns)

    @property
    def camera_set(self) -> str:
        """The set whose cameras the camera numbers are of: its name, and its folder's where that is a form's name."""
        root = self.table or self.root
        place = f" {Path(root).name}" if self.name in FORMS and root is not None else ""
        return self.name.removesuffix("-trainval") + place

    @property
    def people_share(self) -> float:
        """The share of the people that are trained on, in a set without a split."""
        return DEFAULT_PEOPLE_SHARE if self.split is None else float(self.split.removeprefix(PEOPLE))

    def __post_init__(self) -> None:
        for name in ("also", "columns", "attributes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        expand_homes(self, ("root", "also", "table", "tracks"))
        for entry in self.also:
            name_and_folder(entry, "data.also")
        if self.root is not None and self.name.startswith("synthetic"):
            raise InputError(
                f"data.root {self.root} is not used by the data set {self.name}, which this package draws: name the "
                "layout of the folder with --data.name (market-layout, market1501, course), or choose a recipe "
                "with --config"
            )
        for setting, forms in SETTINGS_OF_FORMS.items():
            check(
                getattr(self, setting) == getattr(type(self), setting) or self.name in forms,
                f"data.{setting.replace('_', '-')}",
                f"left out with --data.name {self.name}: it is for {' and '.join(forms)}",
                getattr(self, setting),
            )
        if self.split is not None:
            own = self.name.startswith("synthetic")
            check(not own, "data.split", f"left out with --data.name {self.name}, which has a split", self.split)
            known = self.split.startswith(PEOPLE) and _is_share(self.split.removeprefix(PEOPLE))
            check(known, "data.split", "people:SHARE with a share between 0 and 1, as people:0.5", self.split)
        labels = [entry.partition("=")[0] for entry in self.columns if entry.partition("=")[2]]
        allowed = COLUMNS if self.name == "table" else LABELS
        right = len(set(labels)) == len(self.columns) and set(labels) <= set(allowed)
        check(right, "data.columns", f"LABEL=COLUMN with LABEL one of {', '.join(allowed)}, each once", self.columns)
        check_positive("data.every", self.every)
        check_positive("data.min-height-px", self.min_height_px)
        check_positive("data.test-vehicles", self.test_vehicles)
        check(0 <= self.min_visibility <= 1, "data.min-visibility", "between 0 and 1", self.min_visibility)
        check(self.split_seed >= 0, "data.split-seed", "0 or more", self.split_seed)
        check(self.partition >= 1, "data.partition", "1 or more", self.partition)
        check(0 <= self.validation_share < 1, "data.validation-share", "in [0, 1)", self.validation_share)
        check(0 <= self.device_share < 1, "data.device-share", "in [0, 1)", self.device_share)


def added_set(entry: str, setting: str, main: DataConfig) -> DataConfig:
    """An additional data set, NAME:FOLDER, with the default settings of its form.

    How images are cached and what happens to unreadable ones is as in the main set.
    """
    name, folder = name_and_folder(entry, setting)
    return replace(
        DataConfig(name=name, root=folder or None),
        on_bad_image=main.on_bad_image,
        validation_share=main.validation_share,
        cache_dir=main.cache_dir,
        device_share=main.device_share,
    )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Augmentation of training images, in batches on the training device."""

    flip_probability: float = 0.5
    """Probability of a horizontal flip."""
    pad_px: int = 10
    """Random crop: pad by this many pixels, then crop to size; 0: off."""
    pad_with: Literal["mean", "black"] = "mean"
    """Color of the padding: the mean color, or black as in most public re-ID codes."""
    rotation_degrees: float = 0.0
    """Largest random rotation, in either direction."""
    color_jitter: float = 0.0
    """Strength of color jitter: brightness, contrast and saturation are scaled by 1 ± this."""
    white_balance: float = 0.0
    """Strength of white balance jitter: red, green and blue are each scaled by 1 ± this, as another camera would."""
    grayscale_probability: float = 0.0
    """Probability of converting an image to grayscale."""
    erase_probability: float = 0.0
    """Probability of random erasing (Zhong et al. 2020), which can hide attributes."""
    erase_min_area: float = 0.02
    """Smallest erased fraction of the image."""
    erase_max_area: float = 0.4
    """Largest erased fraction of the image."""
    erase_ratio: Literal["log-uniform", "uniform"] = "log-uniform"
    """Aspect ratio (height / width) of erased areas, from 0.3 to 1 / 0.3: `uniform` in the code of Zhong et al. 2020
    and Luo et al. 2019, `log-uniform` in timm's and TransReID's."""
    erase_misfit: Literal["clip", "redraw"] = "clip"
    """An erased area higher or wider than the image is clipped, or drawn again as in all of these codes."""
    erase_with: Literal["mean", "noise", "mean-after-normalization"] = "mean"
    """Fill of erased areas: the mean color; normal noise per pixel; or the mean's numbers as a normalized color, a
    light gray, as in the code of Luo et al. 2019, which erases after normalization."""
    patch_probability: float = 0.0
    """Probability of pasting a patch of another training image (random patch, Zhou et al. 2021)."""
    patch_min_area: float = 0.01
    """Smallest patch, as a fraction of the image."""
    patch_max_area: float = 0.5
    """Largest patch, as a fraction of the image."""
    trivial_augment: float = 0.0
    """Probability of TrivialAugment (Müller and Hutter 2021): one of 14 operations at a random strength, among them
    rotation by up to 135 degrees and translation by up to 32 pixels."""

    def __post_init__(self) -> None:
        check_choices(self, "augment")
        shares = ("flip_probability", "color_jitter", "white_balance", "grayscale_probability", "erase_probability")
        for name in (*shares, "patch_probability", "trivial_augment"):
            value = getattr(self, name)
            check(0 <= value <= 1, f"augment.{name.replace('_', '-')}", "between 0 and 1", value)
        check(self.pad_px >= 0, "augment.pad-px", "0 or more", self.pad_px)
        degrees = self.rotation_degrees
        check(0 <= degrees <= 180, "augment.rotation-degrees", "between 0 and 180", degrees)
        for name in ("erase", "patch"):
            areas = (getattr(self, f"{name}_min_area"), getattr(self, f"{name}_max_area"))
            names = f"augment.{name}-min-area, {name}-max-area"
            check(0 < areas[0] <= areas[1] < 1, names, "0 < min <= max < 1", areas)
