"""A small real run with all that a report can hold, for the tests of page, card and terminal."""

from pathlib import Path

import numpy as np
import pytest

from helpers.launching import TINY
from helpers.made_sets import make_market
from reid_accel.attributes.annotations import write_market_mat
from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.train import main as train

BAD_IMAGE = "0002_c1s1_999999_00.png"


def tiny_run(folder: Path) -> Path:
    """Train two epochs on a few made people with attributes and one broken image; returns the run's folder."""
    market = make_market(folder / "market")
    (market / "bounding_box_train" / BAD_IMAGE).write_bytes(b"no image")
    rng = np.random.default_rng(3)
    people = {pid: tuple(int(rng.integers(len(group.values))) for group in MARKET_GROUPS) for pid in range(1, 13)}
    write_market_mat(market / "market_attribute.mat", people, people)
    data = ["--data.name=market-layout", "--data.title=Made Market", f"--data.root={market}"]
    data += [f"--data.cache-dir={folder / 'cache'}", "--data.validation-share=0.3", "--data.on-bad-image=skip"]
    losses = ["--loss.triplet=0.5", "--loss.circle=0.1", "--train.images-per-identity=4", "--train.batch-size=8"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        train([*TINY, *data, *losses, "--train.epochs=2", "--score.rerank", f"--run.dir={folder / 'run'}"])
    return folder / "run"
