"""What the tests share: small made data sets, and the way to real ones."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
# two tests at a time, each with a thread per core: threads that wait for others must not keep the cores from them
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from helpers.made_sets import make_market

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The folder of real images, annotation and outside numbers; tests that need it skip without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the shared test data is not there ({SHARED_DATA})")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def _log_as_imported() -> Iterator[None]:
    """After a run in this process, the package's log goes to `caplog` again."""
    yield
    logger = logging.getLogger("reid_accel")
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def small_market(tmp_path: Path) -> Path:
    """`make_market` in a temporary folder."""
    return make_market(tmp_path / "market")
