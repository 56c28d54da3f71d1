"""A FIFO in place of a file that is read: a sentence at once, where opening it would wait for a writer."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.made_sets import make_market, make_msmt17
from helpers.time_limit import within

from reid_accel import cli
from reid_accel.attributes.annotations import read_course_csv, read_market_mat
from reid_accel.config.parse import recipe_config
from reid_accel.config.schema import Config, ScoreConfig
from reid_accel.course.submission import check_classification, submission_kind
from reid_accel.data.forms.layouts import Course, MarketLayout, Msmt17
from reid_accel.errors import InputError
from reid_accel.evaluation.saved_features import ABOUT_FILE, score_saved_features
from reid_accel.models.backbone import build_backbone, load_pretrained
from reid_accel.models.reid import load_model
from reid_accel.retrieval.feature_files import read_features
from reid_accel.synthetic.market import SETTINGS_FILE, SyntheticMarket, write_synthetic_market
from reid_accel.training.checkpoint import PROGRESS_FILE, newest_checkpoint, read_checkpoint


def fifo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def of_market(folder: Path) -> None:
    fifo(make_market(folder) / MarketLayout.attribute_file)
    MarketLayout().read(folder)


def of_course(folder: Path) -> None:
    for name in Course.folders.values():
        (folder / name).mkdir()
    fifo(folder / Course.attribute_file)
    Course().read(folder)


def of_msmt17(folder: Path) -> None:
    fifo(make_msmt17(folder) / "list_query.txt")
    Msmt17().read(folder)


def of_backbone(folder: Path) -> None:
    settings = Config().model
    backbone = build_backbone(type(settings)(backbone="test_resnet", pretrained=False, height_px=64, width_px=32))
    load_pretrained(backbone, "test_resnet", str(fifo(folder / "weights.safetensors")))


def of_saved_features(folder: Path) -> None:
    fifo(folder / ABOUT_FILE)
    score_saved_features(folder, ScoreConfig(), torch.device("cpu"))


def of_synthetic_set(folder: Path) -> None:
    fifo(folder / "set" / SETTINGS_FILE)
    write_synthetic_market(SyntheticMarket(), folder / "set", workers=1)


def of_checkpoint(folder: Path) -> None:
    fifo(folder / "step-00000001" / PROGRESS_FILE)
    assert newest_checkpoint(folder) is None
    read_checkpoint(folder / "step-00000001")


READERS: dict[str, Callable[[Path], Any]] = {
    "recipe": lambda folder: recipe_config(Config, str(fifo(folder / "recipe.yaml"))),
    "market": of_market,
    "course": of_course,
    "MSMT17": of_msmt17,
    "mat file": lambda folder: read_market_mat(fifo(folder / "a.mat")),
    "csv file": lambda folder: read_course_csv(fifo(folder / "a.csv")),
    "weights": of_backbone,
    "features": lambda folder: read_features(fifo(folder / "query.json").parent, "query"),
    "saved features": of_saved_features,
    "model": lambda folder: load_model(fifo(folder / "model" / "config.json").parent),
    "synthetic set": of_synthetic_set,
    "checkpoint": of_checkpoint,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_fifo_is_refused_at_once(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    with within(60), pytest.raises(InputError):
        read(tmp_path)


def test_a_fifo_is_no_submission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fifo(tmp_path / "classification_test.csv")
    for read in (submission_kind, check_classification):
        with within(60), pytest.raises(OSError, match="not a regular file"):
            read(path)  # type: ignore[operator]
    with within(60), pytest.raises(SystemExit) as left:
        cli.main(["check-submission", str(path)])
    assert left.value.code == 2
    assert "not a regular file" in " ".join(capsys.readouterr().err.replace("│", " ").split())
