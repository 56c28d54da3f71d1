"""Settings of `reid-accel split`."""

from dataclasses import dataclass, field

from reid_accel.config.checks import expand_homes
from reid_accel.config.data import DataConfig
from reid_accel.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Write the split of a data set as a table, to keep and to share: `reid-accel split FOLDER --to table.csv`.

    `--data.name table --data.root table.csv` reads it back: the same images, names, labels and splits. A set without
    split is split by `--data.split` and `--data.split-seed`. Other forms than `folders`: `--data.name`.
    """

    data: DataConfig = field(default_factory=DataConfig)
    to: str
    """New table: .csv or .tsv, best in the folder of the images, since paths are relative to the table."""

    def __post_init__(self) -> None:
        expand_homes(self, ("to",))
        if self.data.also:
            raise InputError("split writes one set: omit --data.also")
