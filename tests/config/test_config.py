import dataclasses
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from reid_accel.config.help import field_texts
from reid_accel.config.parse import parse, recipe_config, to_yaml
from reid_accel.config.recipes import recipes
from reid_accel.config.schema import (
    AugmentConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    PredictionConfig,
    RunConfig,
    ScoringConfig,
    TrainConfig,
)
from reid_accel.errors import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def recipe(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    return ["--config", str(tmp_path / "recipe.yaml")]


def test_flags_win_over_the_recipe(tmp_path: Path) -> None:
    arguments = recipe(tmp_path, "train: {epochs: 7, seed: 3}")
    config = parse(Config, [*arguments, "--train.epochs", "9"])
    assert (config.train.epochs, config.train.seed) == (9, 3)


def test_a_saved_config_reads_back_the_same(tmp_path: Path) -> None:
    config = Config(
        data=DataConfig(name="course", root="some where/else"),
        model=ModelConfig(pretrained=False, attributes=False, last_stride=1, stripes=(1, 2)),
        optim=OptimConfig(step_epochs=(3, 4.5), schedule="steps"),
    )
    assert parse(Config, recipe(tmp_path, to_yaml(config))) == config


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_understood(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")
    assert isinstance(parse(Config, ["--config", str(path)]), Config)


def test_a_word_where_a_number_belongs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        parse(Config, recipe(tmp_path, 'train: {epochs: "two"}'))
    assert exit_info.value.code == 2
    assert "train.epochs" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {epoch: 3}", "did you mean train.epochs?"),
        ("trian: {epochs: 3}", "did you mean train?"),
        ("train: 3", "train must hold"),
        ("- 1", "the file must hold"),
        ("train: {epochs: [", "cannot be read"),
    ],
)
def test_recipe_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=r".*recipe\.yaml.*") as info:
        parse(Config, recipe(tmp_path, text))
    assert message in str(info.value)


def test_an_unknown_recipe_is_refused_with_the_names_of_the_packaged_ones() -> None:
    for name in ("nowhere.yaml", "market"):
        with pytest.raises(InputError, match=f"no recipe {name}.* apr, bot, .*market1501, quickstart"):
            parse(Config, ["--config", name])
    with pytest.raises(InputError, match="--config needs a recipe"):
        parse(Config, ["--config"])


def test_a_recipe_is_found_by_name_or_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse(Config, ["--config", "bot"]) == parse(Config, [f"--config={CONFIGS / 'bot.yaml'}"])
    assert parse(Config, ["--config", "bot"]) == recipe_config(Config, "bot")
    assert set(recipes()) == {path.stem for path in CONFIGS.glob("*.yaml")}


def test_help_and_errors_show_the_recipes_own_values(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["--help", "train"], ["--train.epochs", "many"]):
        with pytest.raises(SystemExit):
            parse(Config, ["--config", "bot", *arguments])
        assert "Number of epochs. (default: 120)" in printed(capsys), arguments


def test_help_of_an_unknown_section_names_the_sections() -> None:
    with pytest.raises(InputError, match="--help dat: there is no such section, only data, model, "):
        parse(Config, ["--help", "dat"])


def test_help_of_a_section_shows_that_section_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help", "data"], ["-h", "data", "--config", "bot"]):
        with pytest.raises(SystemExit) as left:
            parse(Config, arguments, default_recipe="quickstart")
        assert left.value.code == 0
        shown = printed(capsys)
        assert "--data.root" in shown
        assert "--train.epochs" not in shown


def test_a_recipes_mistake_is_traced_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(Config, recipe(tmp_path, "train: {epochs: 0}"), default_recipe="quickstart")
    assert f"in the recipe {tmp_path / 'recipe.yaml'}" in capsys.readouterr().err


def test_every_setting_has_a_help_text_in_one_paragraph(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for kind in (Config, ScoringConfig, PredictionConfig):
        with pytest.raises(SystemExit):
            parse(kind, ["--help"], default_recipe="quickstart" if kind is Config else None)
        shown = printed(capsys)
        for name, text in all_texts(kind):
            assert text.endswith("."), name
            assert text in shown, name


def all_texts(kind: type) -> Iterator[tuple[str, str]]:
    """Every setting of a config with its help text."""
    for field in dataclasses.fields(kind):
        section = field.default_factory
        if isinstance(section, type) and dataclasses.is_dataclass(section):
            yield from all_texts(section)
        else:
            yield field.name, field_texts(kind).get(field.name, "")


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    """All that was printed, without frames and line breaks."""
    return " ".join("".join(capsys.readouterr()).replace("│", " ").split())


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("--augment.colour-jitter", "--augment.color-jitter"),
        ("--loss.centre", "--loss.center"),
        ("--train.epoch", "--train.epochs"),
    ],
)
def test_an_unknown_flag_is_refused_with_the_nearest(
    written: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(Config, [written, "1"])
    assert f"{meant} " in printed(capsys)


def test_settings_are_parsed_without_torch() -> None:
    code = (
        "import sys; from reid_accel.config import parse, schema; "
        "parse.parse(schema.Config, [], default_recipe='bot'); "
        "print([name for name in ('torch', 'numpy', 'datasets', 'accelerate') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelConfig(height_px=250), "model.height-px must be a positive multiple of 32, got 250"),
        (lambda: ModelConfig(height_px=128, stripes=(1, 9)), "model.stripes must be numbers from 1 to 8 at"),
        (lambda: ModelConfig(stripes=()), "model.stripes must be numbers from 1 to 16 at model.height-px 256, got ()"),
        (lambda: TrainConfig(epochs=0), "train.epochs must be positive, got 0"),
        (lambda: TrainConfig(batch_size=30, images_per_identity=4), "divisor of train.batch-size (30) below it, got 4"),
        (lambda: TrainConfig(images_per_identity=1), "train.images-per-identity must be 0 (shuffled images), or 2"),
        (lambda: TrainConfig(batch_size=4, images_per_identity=4), "train.images-per-identity must be"),
        (lambda: DataConfig(device_share=1.0), "data.device-share must be in [0, 1), got 1.0"),
        (lambda: DataConfig(validation_share=1.0), "data.validation-share must be in"),
        (
            lambda: DataConfig(root="mine"),
            "data.root mine is not used by the data set synthetic, which this package draws",
        ),
        (
            lambda: ScoringConfig(model="m", data=DataConfig(also=("synthetic:x",))),
            "to score the model on additional sets",
        ),
        (lambda: AugmentConfig(flip_probability=1.5), "augment.flip-probability must be between 0 and 1"),
        (lambda: AugmentConfig(patch_probability=-0.5), "augment.patch-probability must be between 0 and 1, got -0.5"),
        (lambda: AugmentConfig(trivial_augment=2), "augment.trivial-augment must be between 0 and 1, got 2"),
        (lambda: AugmentConfig(patch_min_area=0.6), "augment.patch-min-area, patch-max-area must be 0 < min <= max"),
        (lambda: OptimConfig(learning_rate=0), "optim.learning-rate must be above 0"),
        (lambda: OptimConfig(step_factor=-1), "optim.step-factor must be in (0, 1], got -1"),
        (lambda: OptimConfig(momentum=1), "optim.momentum must be in [0, 1), got 1"),
        (lambda: OptimConfig(step_epochs=(4, -5)), "optim.step-epochs must be above 0, got (4, -5)"),
        (lambda: with_margin("cosface", 2.0), "loss.classifier-margin must be below 2, got 2.0"),
        (lambda: with_margin("arcface", 3.2), "loss.classifier-margin must be below 3.14, got 3.2"),
        (lambda: LossConfig(identity=0, attributes=0, center=1), "loss.identity + attributes + triplet + circle must"),
        (lambda: Config(loss=LossConfig(identity=0), model=ModelConfig(attributes=False)), "nothing would be trained"),
    ],
)
def test_impossible_values_are_refused_by_name(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError) as info:
        make()
    assert message in str(info.value)


def with_margin(classifier: Literal["linear", "arcface", "cosface"], margin: float) -> Config:
    return Config(model=ModelConfig(classifier=classifier), loss=LossConfig(classifier_margin=margin))


def test_margins_that_exist_are_taken() -> None:
    for classifier, margin in (("cosface", 1.9), ("arcface", 3.1), ("linear", 99.0)):
        assert with_margin(classifier, margin).loss.classifier_margin == margin


def test_a_batch_that_processes_cannot_share_is_refused() -> None:
    assert TrainConfig(batch_size=24, accumulation_steps=2).micro_batch_size(3) == 4
    with pytest.raises(InputError, match="multiple of 6"):
        TrainConfig(batch_size=32, accumulation_steps=2).micro_batch_size(3)


def test_a_required_setting_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(ScoringConfig, [])
    assert "--model" in "".join(capsys.readouterr())


def test_the_help_names_recipes_and_shows_only_what_counts(capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    for kind, default in ((Config, "quickstart"), (PredictionConfig, None)):
        with pytest.raises(SystemExit):
            parse(kind, ["--help"], default_recipe=default)
        said[kind] = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "`--config RECIPE`: start from the settings of a recipe" in said[Config]
    assert "default: quickstart)" in said[Config]
    assert "`--config FILE`: read settings" in said[PredictionConfig]
    for option, counts in (("--score.flip", True), ("--score.rerank", False), ("--score.validation-queries", False)):
        assert option in said[Config]
        assert (option in said[PredictionConfig]) == counts


def test_losses_on_pairs_need_batches_of_people() -> None:
    with pytest.raises(InputError, match=r"set --train\.images-per-identity 4"):
        Config(loss=LossConfig(triplet=1.0))
    loss, train = LossConfig(triplet=1.0), TrainConfig(batch_size=32, images_per_identity=4, accumulation_steps=8)
    with pytest.raises(InputError, match="metric losses see 4 images at once"):
        Config(loss=loss, train=train).micro_batch_size(1)
    wide = TrainConfig(batch_size=32, images_per_identity=4, accumulation_steps=2)
    assert Config(loss=loss, train=wide).micro_batch_size(4) == 4, "four processes together see 16"
    apart = LossConfig(triplet=1.0, pairs_across_processes=False)
    with pytest.raises(InputError, match="at least 8"):
        Config(loss=apart, train=wide).micro_batch_size(4)
    with pytest.raises(InputError, match=r"on with loss\.center"):
        LossConfig(center=0.1, pairs_across_processes=False)


def test_a_home_folder_is_found_in_every_path_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    home = str(tmp_path)
    config = parse(
        Config,
        [
            "--run.dir=~/run", "--run.resume=~/run/checkpoints/step-00000001", "--model.weights-file=~/w.safetensors",
            "--data.name=market1501", "--data.root=~/market", "--data.also", "msmt17:~/msmt", "market1501:b",
        ],
    )  # fmt: skip
    assert (config.run.dir, config.model.weights_file) == (f"{home}/run", f"{home}/w.safetensors")
    assert config.run.resume == f"{home}/run/checkpoints/step-00000001"
    assert (config.data.root, config.data.also) == (f"{home}/market", (f"msmt17:{home}/msmt", "market1501:b"))
    scoring = parse(ScoringConfig, ["--model=~/run/model", "--dir=~", "--also", "msmt17:~/msmt"])
    assert (scoring.model, scoring.dir, scoring.also) == (f"{home}/run/model", home, (f"msmt17:{home}/msmt",))
    assert parse(ScoringConfig, ["--features=~/f"]).features == f"{home}/f"
    predicting = parse(PredictionConfig, ["--model=user/name", "--queries=~/q", "--test=~/t.jpg", "--dir=~/p"])
    assert (predicting.model, predicting.queries) == ("user/name", f"{home}/q")
    assert (predicting.test, predicting.dir) == (f"{home}/t.jpg", f"{home}/p")
    with pytest.raises(InputError, match="no such home folder"):
        RunConfig(dir="~nobody-of-this-name/run")


def test_no_setting_is_nan_or_infinite() -> None:
    config = Config()
    sections = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    numbers = [
        (section, field.name)
        for section, values in sections.items()
        for field in dataclasses.fields(values)
        if isinstance(getattr(values, field.name), float)
    ]
    assert len(numbers) > 20
    for section, name in numbers:
        for value in (math.nan, math.inf, -math.inf):
            with pytest.raises(InputError, match=name.replace("_", ".")):
                Config(**{section: dataclasses.replace(sections[section], **{name: value})})
