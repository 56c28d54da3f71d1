"""Every recipe in configs/ trains: two epochs on drawn pedestrians with a small network of its backbone's kind."""

from pathlib import Path

import pytest
from helpers.launching import read_json

from reid_accel.config.parse import parse
from reid_accel.config.schema import Config
from reid_accel.train import main as train

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMALL = {  # of each recipe's backbone
    "resnet50": "test_resnet",
    "resnet10t": "test_resnet",
    "resnet10t_ibn_a": "resnet10t_ibn_a",
    "resnet50_ibn_a": "resnet10t_ibn_a",
    "vit_small_patch16_224": "test_vit",
    "mobilenetv3_large_100": "mobilenetv3_small_050",
    "osnet_x0_25": "osnet_x0_25",
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the drawn pedestrians are kept, for all recipes."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_trains(path: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    recipe = parse(Config, ["--config", str(path)])
    data = "synthetic-course" if recipe.data.name == "course" else "synthetic"
    train(
        [
            f"--config={path}", f"--data.name={data}", "--data.synthetic-identities=20", f"--data.cache-dir={cache}",
            f"--model.backbone={SMALL[recipe.model.backbone]}", "--model.no-pretrained", "--model.height-px=64",
            "--model.width-px=32", "--train.epochs=2", "--train.batch-size=16", "--optim.warmup-epochs=0.5",
            "--optim.frozen-epochs=0.5", "--optim.clip-norm=1", "--run.cpu-threads=1", "--run.dir=run",
            "--run.mixed-precision=no", "--score.shown-queries=1",
        ]
    )  # fmt: skip
    report = read_json(tmp_path / "run/report.json")
    history = report["training"]["history"]
    assert len(history) == 2
    assert history[1]["loss"] < history[0]["loss"]
    on = {name for name in ("triplet", "circle", "center") if getattr(recipe.loss, name)}
    assert set(history[0]["losses"]) == on | {"identity"} | ({"attributes"} if recipe.model.attributes else set())
    assert sum(history[0]["losses"].values()) == pytest.approx(history[0]["loss"], rel=1e-5)
    assert report["retrieval"][0]["mAP"] > 0
