"""Own data in every form: it is trained on and scored as it is."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.launching import TINY, read_json
from helpers.made_mot import make_sequence
from helpers.made_sets import make_market
from helpers.made_vehicles import make_vehicleid, make_veri
from helpers.relaid import Splits, as_market

from reid_accel.config.schema import DataConfig
from reid_accel.data.listing import Listing
from reid_accel.data.reading import read_dataset
from reid_accel.data.tables import tables_of
from reid_accel.score import main as score
from reid_accel.train import main as train


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("COLUMNS", "400")


def make_mot(root: Path) -> Path:
    """Two sequences in which everybody is out of sight for some time."""
    for seed, name in enumerate(("A", "B")):
        make_sequence(root / name, people=(1, 2, 3, 4), seed=seed, rate=2, out_of_sight=range(5, 9))
    return root


def make_hub(root: Path) -> Path:
    market = read_dataset(DataConfig(name="market-layout", root=str(make_market(root.with_name("market")))))
    tables_of(market).rename_columns({"image": "img", "pid": "who"}).save_to_disk(str(root))
    return root


FORMS: dict[str, tuple[Callable[[Path], Path], list[str], str]] = {
    "veri": (make_veri, [], "market1501"),
    "vehicleid": (make_vehicleid, [], "no camera rule"),
    "mot": (make_mot, ["--data.every=1"], "tracklet rule"),
    "hub": (make_hub, ["--data.columns", "image=img", "person=who"], "market1501"),
}
"""How a miniature of each form is made, the settings that it needs, and a word of the protocol that it is scored by."""


@pytest.mark.parametrize("form", FORMS)
def test_a_set_of_each_form_is_trained_on_and_scored(form: str, tmp_path: Path) -> None:
    make, more, protocol = FORMS[form]
    data = [f"--data.name={form}", f"--data.root={make(tmp_path / 'set')}", "--data.cache-dir=cache", *more]
    train([*TINY, *data, "--data.validation-share=0", "--train.epochs=1", "--train.batch-size=8", "--run.dir=run"])
    first = read_json(Path("run/report.json"))
    assert first["retrieval"]
    assert protocol in first["retrieval"][0]["protocol"]
    score(["--model=run/model", *data, "--dir=again"])
    assert read_json(Path("again/report.json"))["retrieval"][0]["mAP"] == first["retrieval"][0]["mAP"]


def as_hub(splits: Splits, root: Path) -> Path:
    """The tables of the library, saved with their images."""
    tables_of(Listing(splits, (), "")).save_to_disk(str(root))  # type: ignore[arg-type]
    return root


@pytest.mark.parametrize("form", ["hub"])
def test_cuhk03_laid_out_anew_gives_the_same_model_and_the_same_scores(
    form: str, shared_data: Path, tmp_path: Path
) -> None:
    whole = read_dataset(DataConfig(name="market-layout", root=str(shared_data / "cuhk03-np" / "detected")))
    few = {split: tuple(image for image in images if image.pid < 20) for split, images in whole.splits.items()}
    places = {"market-layout": as_market(few, tmp_path / "market"), form: as_hub(few, tmp_path / form)}
    for name, root in places.items():
        data = [f"--data.name={name}", f"--data.root={root}", "--data.cache-dir=cache", "--run.deterministic"]
        train([*TINY, *data, "--train.epochs=1", "--train.batch-size=16", f"--run.dir={name}"])
    market, other = (Path(name) / "report.json" for name in places)
    assert read_json(market)["retrieval"] == read_json(other)["retrieval"]
    models = [(Path(name) / "model" / "model.safetensors").read_bytes() for name in places]
    assert models[0] == models[1]
