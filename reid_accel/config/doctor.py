"""Settings of `reid-accel doctor`."""

from dataclasses import dataclass, field

from reid_accel.config.checks import LogLevel, expand_homes
from reid_accel.config.data import DataConfig
from reid_accel.errors import InputError


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Find what is wrong with a data set: labels, splits, cameras, pictures. Images are never changed.

    Exit code 0: nothing, or warnings only; 1: something makes scores wrong; 2: misuse.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: str | None = None
    """Model folder (RUN/model) or hub repository (user/name), to also find probable label errors, outliers, and people
    who are in train and test under different numbers."""
    model_module: str | None = None
    """Python module to import first, which registers the model's backbone with timm if timm doesn't have it."""
    dir: str | None = None
    """Folder of doctor.html and doctor.json. Default: runs/doctor, or the first free one of runs/doctor-2,
    runs/doctor-3, ..."""
    fix: str | None = None
    """New CSV file: the table of the set without the bad images, for `--data.name table`."""
    log_level: LogLevel = "info"
    """Least severe messages to print; `warning`: only warnings, errors and the tables."""

    def __post_init__(self) -> None:
        expand_homes(self, ("model", "dir", "fix"))
        if self.data.also:
            raise InputError("the doctor looks at one set at a time: run it on each set of data.also by itself")
