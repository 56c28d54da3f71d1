"""One real run whose report the tests of this folder read."""

from pathlib import Path

import pytest
from helpers.launching import read_json
from helpers.reports import tiny_run

from reid_accel.reporting.schema import Report


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real run of two epochs."""
    return tiny_run(tmp_path_factory.mktemp("reported"))


@pytest.fixture
def report(run_folder: Path) -> Report:
    """That run's report; each test may change its own."""
    return read_json(run_folder / "report.json")
