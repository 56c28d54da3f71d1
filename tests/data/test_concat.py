from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from helpers.launching import TINY, read_json
from helpers.made_sets import make_market

from reid_accel.attributes.annotations import write_market_mat
from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.config.schema import DataConfig, ModelConfig
from reid_accel.data.builders import load
from reid_accel.data.concat import joined
from reid_accel.data.dataset import groups_of
from reid_accel.train import main as train
from reid_accel.training.run_data import open_data, split_training_images


def test_people_stand_side_by_side_and_attributes_are_known_where_they_are(tmp_path: Path) -> None:
    plain, annotated = (make_market(tmp_path / name, identities=4, images=3) for name in ("plain", "annotated"))
    people = {pid: tuple(0 for _ in MARKET_GROUPS) for pid in range(1, 9)}
    write_market_mat(annotated / "market_attribute.mat", people, people)
    tables = [load("market-layout", root, cache_dir=tmp_path / "cache")["train"] for root in (plain, annotated)]
    for main, other, known in ((tables[0], tables[1], slice(0, 12)), (tables[1], tables[0], slice(12, 24))):
        both, added = joined(main, {"other": other})
        assert len(both) == 24
        assert added == 4
        pid_N = np.asarray(both["pid"])
        assert sorted(set(pid_N.tolist())) == list(range(1, 9))
        assert pid_N[:12].max() < pid_N[12:].min(), "the main set's people are the last"
        assert np.array_equal(pid_N[12:] - 4, np.asarray(main["pid"]))
        assert [group.name for group in groups_of(both)] == [group.name for group in MARKET_GROUPS]
        age_N = np.asarray(both["age"])
        assert (age_N[known] >= 0).all()
        assert (age_N >= 0).sum() == 12
        paths = [
            image["path"] for image in both.cast_column("image", type(both.features["image"])(decode=False))["image"]
        ]
        assert len(set(paths)) == 24
        assert both["name"][0].startswith("other/")


def test_training_on_two_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for name, identities in (("one", 8), ("two", 6)):
        make_market(tmp_path / name, identities=identities, images=4)
    train(
        [
            *TINY, "--data.name=market-layout", "--data.root=one", "--data.also=market-layout:two",
            "--data.cache-dir=cache", "--data.validation-share=0", "--train.epochs=1", "--train.batch-size=8",
            "--run.dir=run",
        ]
    )  # fmt: skip
    assert read_json(tmp_path / "run/model/config.json")["architecture"]["num_identities"] == 14
    splits = read_json(tmp_path / "run/report.json")["data"]["splits"]
    assert splits["train"]["identities"] == 14
    assert splits["query"]["identities"] == 8, "scored on the first set alone"


def test_only_people_of_the_main_set_are_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    main, other = make_market(tmp_path / "main", identities=6, images=4), make_market(tmp_path / "other", identities=20)
    settings = DataConfig(
        name="market-layout", root=str(main), also=(f"market-layout:{other}",), cache_dir=str(tmp_path / "cache")
    )
    data = open_data(settings, ModelConfig(height_px=64, width_px=32), Accelerator(cpu=True), lambda text: None)
    own = set(range(21, 27))
    for share, left_out in ((0.3, 2), (0.5, 3), (0.0, 0)):  # of 6 people with as many images each
        training, held_out = split_training_images(data, share)
        trained = set(training.images.pid_N.tolist())
        held = set(held_out.pid_N.tolist()) if held_out is not None else set()
        assert trained | held == own | set(range(1, 21))
        assert not trained & held
        assert held <= own
        assert len(held) == left_out


def test_what_cannot_be_joined_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(SystemExit):
        train(["--data.also=market-layout"])
    assert "NAME:FOLDER" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit):
        train([*TINY, "--data.also=market-layout:nowhere", f"--data.cache-dir={tmp_path}"])
    assert "nowhere" in capsys.readouterr().err
