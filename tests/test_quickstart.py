"""The command of the README's first screen, with its default recipe."""

from pathlib import Path

import pytest
from helpers.launching import PACKAGE, launch, read_json

pytestmark = pytest.mark.launch


def test_the_quickstart_reaches_its_floor(tmp_path: Path) -> None:
    # one thread: several would wait for each other where other tests run at the same time
    launch(PACKAGE / "train.py", "--data.cache-dir=cache", "--run.cpu-threads=1", folder=tmp_path)
    report = read_json(tmp_path / "runs/quickstart/report.json")
    scores = [entry for entry in report["retrieval"] if entry["split"].startswith("query")]
    assert [entry["protocol"] for entry in scores] == ["market1501"]
    assert scores[0]["mAP"] >= 0.80
    groups = report["attributes"]["conventions"]["12 groups"]
    assert groups["accuracy"] >= groups["majority_baseline"] + 0.08
