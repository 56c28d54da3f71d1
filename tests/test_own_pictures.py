"""Own pictures in folders and in a table: trained on and scored by the rule that their labels allow."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.launching import TINY, read_json
from helpers.made_sets import make_market
from helpers.relaid import as_folders, as_market, as_table

from reid_accel.cli import main as command
from reid_accel.config.schema import DataConfig
from reid_accel.data.listing import Listing
from reid_accel.data.reading import read_dataset
from reid_accel.retrieval.protocol import MARKET, NO_CAMERA_RULE, TRACKLET_RULE
from reid_accel.score import main as score
from reid_accel.train import main as train


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("COLUMNS", "400")


def market(root: Path) -> Listing:
    return read_dataset(DataConfig(name="market-layout", root=str(make_market(root.with_name("market")))))


def unsplit(root: Path, folder: str) -> Path:
    """All images in folders of people with names; `folder` is filled with camera and number."""
    for images in market(root).splits.values():
        for number, image in enumerate(images):
            place = root / f"person {image.pid}" / folder.format(camera=image.camera, number=number)
            place.mkdir(parents=True, exist_ok=True)
            os.symlink(image.path, place / image.name)
    return root


def table(root: Path) -> Path:
    root.mkdir()
    first, *rows = as_table(market(root).splits, root).read_text().splitlines()
    attributes = [f"{('no', 'yes', '')[number % 3]},{number % 2}" for number in range(len(rows))]
    lines = [f"{first},hat,shoes", *(f"{row},{more}" for row, more in zip(rows, attributes, strict=True))]
    path = root.parent / "people.csv"
    path.write_text("\n".join(line.replace(f"{root.parent}/", "") for line in lines))
    return path


FORMS: dict[str, tuple[str, Callable[[Path], Path], list[str], str]] = {
    "cameras": ("folders", lambda root: unsplit(root, "cam{camera}"), ["--data.split=people:0.5"], MARKET),
    "pattern": ("folders", lambda root: unsplit(root, ""), [r"--data.camera-pattern=_c(\d)"], MARKET),
    "tracklets": ("folders", lambda root: unsplit(root, "hall/t{number}"), [], TRACKLET_RULE),
    "nothing": ("folders", lambda root: unsplit(root, ""), ["--data.split-seed=3"], NO_CAMERA_RULE),
    "table": ("table", table, [], MARKET),
}
"""How a set is made, the settings that it needs, and the protocol that it is scored by."""


@pytest.mark.parametrize("kind", FORMS)
def test_own_pictures_are_trained_on_and_scored(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    form, make, more, protocol = FORMS[kind]
    root = make(tmp_path / "set")
    data = [f"--data.name={form}", f"--data.root={root}", "--data.cache-dir=cache", *more]
    train([*TINY, *data, "--data.validation-share=0.4", "--train.epochs=1", "--train.batch-size=8", "--run.dir=run"])
    first = read_json(Path("run/report.json"))
    tested = [scores for scores in first["retrieval"] if scores["split"] == "query → gallery"]
    assert [scores["protocol"] for scores in tested] == [protocol]
    assert f"protocol={protocol} ap=" in tested[0]["stamp"]
    assert (first["attributes"] is not None) == (form == "table")
    said = " ".join(capsys.readouterr().out.split())
    assert ("higher than by market1501" in said) == (protocol != MARKET)
    assert ("the set has no split" in said) == (form == "folders" and "--data.split=people:0.5" not in more)
    assert ("person person 1" in Path("run/report.html").read_text()) == (form == "folders")
    score(["--model=run/model", *data, "--dir=again"])
    assert read_json(Path("again/report.json"))["retrieval"][0]["mAP"] == tested[0]["mAP"]
    with pytest.raises(SystemExit) as left:
        command(["split", str(root), "--to=split.csv", *data])
    assert left.value.code == 0
    reading = ["--data.name=table", "--data.table=split.csv", f"--data.root={tmp_path}", "--data.cache-dir=cache"]
    score(["--model=run/model", *reading, "--dir=table"])
    shared = read_json(Path("table/report.json"))
    assert shared["retrieval"][0]["mAP"] == tested[0]["mAP"]
    assert shared["retrieval"][0]["stamp"] == tested[0]["stamp"]
    assert shared["data"]["fingerprint"] == first["data"]["fingerprint"]
    assert shared["data"]["root"] == "split.csv"


def test_cuhk03_laid_out_anew_gives_the_same_model_and_the_same_scores(shared_data: Path, tmp_path: Path) -> None:
    whole = read_dataset(DataConfig(name="market-layout", root=str(shared_data / "cuhk03-np" / "detected")))
    few = {split: tuple(image for image in images if image.pid < 20) for split, images in whole.splits.items()}
    given = {
        "market-layout": [f"--data.root={as_market(few, tmp_path / 'market')}"],
        "folders": [f"--data.root={as_folders(few, tmp_path / 'folders')}"],
        "table": [f"--data.table={as_table(few, tmp_path)}", f"--data.root={shared_data}"],
    }
    found = []
    for name, root in given.items():
        data = [f"--data.name={name}", *root, "--data.cache-dir=cache", "--run.deterministic"]
        train([*TINY, *data, "--train.epochs=1", "--train.batch-size=16", f"--run.dir={name}"])
        report = read_json(Path(name, "report.json"))
        model = Path(name, "model/model.safetensors").read_bytes()
        found.append((report["retrieval"], report["data"]["fingerprint"], model))
    assert found[0] == found[1] == found[2]
