"""A drawn set for all tests of the doctor, and a way to examine a folder."""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from helpers.broken_sets import draw_clean

from reid_accel.config.data import DataConfig
from reid_accel.data.sets import list_dataset
from reid_accel.doctor.examine import Diagnosis, examine


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clean set; don't change it."""
    return draw_clean(tmp_path_factory.mktemp("doctor") / "drawn")


@pytest.fixture
def clean(drawn: Path, tmp_path: Path) -> Path:
    """A copy of the clean set, to be broken."""
    return Path(shutil.copytree(drawn, tmp_path / "market"))


@pytest.fixture
def diagnose(tmp_path: Path) -> Callable[[Path], Diagnosis]:
    """Examine a folder in Market-1501's layout."""

    def run(root: Path) -> Diagnosis:
        listing = list_dataset(DataConfig(name="market-layout", root=str(root)), cache_dir=tmp_path)
        return examine(listing, "market-layout", lambda title, images: nullcontext(lambda done: None))

    return run
