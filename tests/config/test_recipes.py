"""Every recipe in configs/ trains: two epochs on drawn pedestrians with a small network of its backbone's kind."""

from pathlib import Path

import pytest
from helpers.launching import read_json

from reid_accel.config.parse import parse
from reid_accel.config.schema import Config
from reid_accel.models.weights_origin import timm_tagged
from reid_accel.train import main as train

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMALL = {  # of each recipe's backbone
    "resnet50.tv_in1k": "test_resnet",
    "resnet10t": "test_resnet",
    "resnet10t_ibn_a": "resnet10t_ibn_a",
    "resnet50_ibn_a.tv_in1k": "resnet10t_ibn_a",
    "vit_base_patch16_224.orig_in21k_ft_in1k": "test_vit",
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
            "--model.width-px=32", "--train.epochs=3", "--train.batch-size=16", "--optim.warmup-epochs=0.5",
            "--optim.frozen-epochs=1", "--optim.clip-norm=1", "--run.cpu-threads=1", "--run.dir=run",
            "--run.mixed-precision=no", "--score.shown-queries=1",
        ]
    )  # fmt: skip
    report = read_json(tmp_path / "run/report.json")
    history = report["training"]["history"]
    assert len(history) == 3
    assert history[2]["loss"] < history[1]["loss"], "the backbone is frozen in the first"
    on = {name for name in ("triplet", "circle", "center") if getattr(recipe.loss, name)}
    assert set(history[0]["losses"]) == on | {"identity"} | ({"attributes"} if recipe.model.attributes else set())
    assert sum(history[0]["losses"].values()) == pytest.approx(history[0]["loss"], rel=1e-5)
    assert report["retrieval"][0]["mAP"] > 0


def test_the_recipes_of_papers_name_their_weights() -> None:
    """timm's default weights of a name change; ResNet-50's are no longer those of the papers."""
    for path in CONFIGS.glob("*.yaml"):
        model = parse(Config, ["--config", str(path)]).model
        if model.pretrained and model.backbone.startswith(("resnet50", "vit")):
            tag = "tv_in1k" if model.backbone.startswith("resnet50") else "orig_in21k_ft_in1k"
            assert timm_tagged(model.backbone).partition(".")[2] == tag, path
            assert "." in model.backbone
    assert not timm_tagged("resnet50").endswith("tv_in1k"), "the control: timm's default is another"


def test_bot_and_vit_say_what_their_public_codes_say() -> None:
    bot, vit = (parse(Config, ["--config", name]) for name in ("bot", "vit"))
    for recipe in (bot, vit):
        train, augment, optim = recipe.train, recipe.augment, recipe.optim
        assert (train.epochs, train.batch_size, train.images_per_identity) == (120, 64, 4)
        assert (train.identity_sampler, optim.schedule_unit, optim.decay_everything) == (
            "random-identity",
            "epoch",
            True,
        )
        assert (augment.pad_px, augment.pad_with, augment.erase_misfit) == (10, "black", "redraw")
        assert not recipe.model.attributes
    assert (bot.loss.center, bot.loss.center_rate, bot.loss.center_update) == (5e-4, 0.5, "sgd")
    assert (bot.augment.erase_ratio, bot.augment.erase_with) == ("uniform", "mean-after-normalization")
    assert (vit.optim.name, vit.optim.learning_rate, vit.optim.bias_rate, vit.optim.weight_decay) == (
        "sgd",
        8e-3,
        2,
        1e-4,
    )
    assert (vit.model.drop_path, vit.model.neck_feature, vit.optim.nesterov) == (0.1, "before", False)
    assert (vit.augment.erase_with, vit.augment.erase_ratio) == ("noise", "log-uniform")
    assert (vit.loss.label_smoothing, vit.loss.triplet_margin) == (0, 0)
