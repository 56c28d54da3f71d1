"""Recipes and launch files mean what they say, or are refused with the line."""

import time
from pathlib import Path

import pytest

from reid_accel.config.launch_file import check_launch_file
from reid_accel.config.parse import parse
from reid_accel.config.recipes import launch_file_path, recipe_path
from reid_accel.config.schema import Config, PredictionConfig
from reid_accel.config.yaml_text import read_yaml
from reid_accel.errors import InputError

LAUNCH_FILES = Path(__file__).resolve().parents[2] / "launch"


def parsed(tmp_path: Path, text: str) -> Config:
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    return parse(Config, ["--config", str(tmp_path / "recipe.yaml")])


@pytest.mark.parametrize(
    "text",
    [
        "train: {epochs: 12}\ntrain: {epochs: 60}",
        "train: {epochs: 12, epochs: 60}",
        "train:\n  epochs: 12\n  seed: 1\n  epochs: 12",
        "train: {epochs: 12}\nmodel: {}\n'train': {seed: 3}",
        "data:\n  also: []\n  also: [msmt17:x]",
    ],
)
def test_a_name_that_is_given_twice_is_refused_with_both_lines(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"recipe.yaml, line \d: \w+ is given twice \(first in line 1|2\)"):
        parsed(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("010", 10), ("12", 12), ("1_000", 1000), ("'7'", 7), ("+5", 5),
    ],
)  # fmt: skip
def test_integers_are_read_as_flags_are(text: str, expected: int, tmp_path: Path) -> None:
    assert parsed(tmp_path, f"train: {{epochs: {text}}}").train.epochs == expected
    assert parse(Config, [f"--train.epochs={text.strip(chr(39))}"]).train.epochs == expected


@pytest.mark.parametrize("text", ["1:30", "0o10", "0x1F", "12.0", "1e1", "2026-01-02", "true", "yes"])
def test_what_yaml_alone_would_take_for_an_integer_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(tmp_path, f"train: {{epochs: {text}}}")
    assert "train.epochs" in "".join(capsys.readouterr())


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001", ".001", "1E-3", "'1e-3'"])
def test_floats_are_read_in_every_notation(text: str, tmp_path: Path) -> None:
    assert parsed(tmp_path, f"optim: {{learning_rate: {text}}}").optim.learning_rate == 1e-3


@pytest.mark.parametrize("text", ["no", "'no'", '"no"'])
def test_a_word_is_a_word_where_words_belong(text: str, tmp_path: Path) -> None:
    run = parsed(tmp_path, f"run: {{mixed_precision: {text}, name: on, dir: 010}}").run
    assert (run.mixed_precision, run.name, run.dir) == ("no", "on", "010")


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("False", False), ("on", True), ("NO", False)])
def test_booleans_are_read_in_yamls_words(text: str, expected: bool, tmp_path: Path) -> None:
    assert parsed(tmp_path, f"run: {{compile: {text}, tf32: {text}}}").run.compile is expected
    for wrong in ("1", "maybe", "[true]", "null", ""):
        with pytest.raises(InputError, match="compile must be true or false"):
            parsed(tmp_path, f"run: {{compile: {wrong}}}")


@pytest.mark.parametrize("value", ["--run.overwrite", "--help", "-h", "--config=bot", "--"])
def test_no_value_becomes_a_flag(value: str, tmp_path: Path) -> None:
    for name in ("data: {also: ", "run: {trackers: "):
        for items in (f"['{value}']", f"[tensorboard, '{value}']", f"'{value}'"):
            with pytest.raises(InputError, match="values that don't start with -"):
                parsed(tmp_path, f"{name}{items}}}")
    config = parsed(tmp_path, f"data: {{title: '{value}'}}\nrun: {{dir: '{value}'}}")
    assert (config.data.title, config.run.dir, config.run.overwrite) == (value, value, False)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train: {epochs: [1, 2]}", "train.epochs must be one value"),
        ("train: {epochs: {a: 1}}", "train.epochs must be one value"),
        ("train: {epochs: }", "train.epochs has no value"),
        ("run: {name: ~}", "run.name has no value"),
        ("data: {also: [[a]]}", "must be a list of values"),
        ("model: !!python/object:os.system {}", "the tag .* has no meaning"),
        ("model: {backbone: !mine x}", "the tag !mine has no meaning"),
        ("? [a]\n: 1", "must be a word"),
        ("train: {epochs: 1}\n--- \ntrain: {epochs: 2}", "cannot be read"),
        ("train: &a\n  epochs: *a", "deeper nested"),
        ("[" * 50_000, "nested too deeply"),
        ("#" * 200_000, "too many for settings"),
    ],
)
def test_what_no_recipe_holds_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        parsed(tmp_path, text)


def test_aliases_that_multiply_are_bounded(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    start = time.perf_counter()
    with pytest.raises(InputError, match="aliases count each time"):
        parsed(tmp_path, "\n".join(lines))
    assert time.perf_counter() - start < 5


def test_settings_can_be_reused_by_alias(tmp_path: Path) -> None:
    config = parsed(tmp_path, "train: &shared {seed: 3, epochs: 2}\nscore: {}\nmodel: {stripes: [1, 2]}")
    assert (config.train.seed, config.model.stripes) == (3, (1, 2))
    (tmp_path / "merged.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}")
    assert read_yaml(tmp_path / "merged.yaml") == {"a": {"x": "1", "y": "2"}, "b": {"x": "1", "y": "3"}}


def test_a_recipe_with_a_byte_order_mark_or_windows_line_ends_is_read(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes("\ufefftrain:\r\n  epochs: 3\r\n".encode())
    assert parse(Config, ["--config", str(tmp_path / "recipe.yaml")]).train.epochs == 3


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("model: m\nqueries: q\ntest: t\nsave_features: yes\n")
    assert recipe_path("~/mine.yaml") == tmp_path / "mine.yaml"
    assert launch_file_path("~/mine.yaml") == tmp_path / "mine.yaml"
    assert parse(PredictionConfig, ["--config", "~/mine.yaml"]).save_features


@pytest.mark.parametrize("path", sorted(LAUNCH_FILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_our_launch_files_pass_their_own_check(path: Path) -> None:
    check_launch_file(path)


LAUNCH = "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_processes: 2\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (LAUNCH.replace("MULTI_GPU", "DEEPSPEED"), "DeepSpeed, which this package doesn't use"),
        (LAUNCH.replace("MULTI_GPU", "FSDP"), "Accelerate's FSDP"),
        (LAUNCH.replace("MULTI_GPU", "MEGATRON_LM"), "Megatron-LM"),
        (LAUNCH.replace("MULTI_GPU", "XLA"), "TPUs"),
        (LAUNCH.replace("MULTI_GPU", "MULTI_CPU"), "starts a single process"),
        (LAUNCH.replace("MULTI_GPU", "NO"), "with quotes"),
        (LAUNCH.replace("LOCAL_MACHINE", "AMAZON_SAGEMAKER"), "not for this machine"),
        (LAUNCH + "mixed_precision: fp8\n", "mixed_precision must be no, fp16 or bf16"),
        (LAUNCH + "mixed_precision: no\n", "with quotes"),
        (LAUNCH + "mpirun_config: {mpirun_hostfile: x}\n", "mpirun"),
        (LAUNCH.replace("2", "two"), "num_processes must be a number"),
        (LAUNCH.replace("2", "-1"), "num_processes must be a number"),
        (LAUNCH + "num_processes: 4\n", "given twice"),
        ("train: {epochs: 3}", "is not a launch file"),
        ("", "is not a launch file"),
        ("- x", "is not a launch file"),
        ("distributed_type: [", "cannot be read"),
    ],
)
def test_a_launch_file_that_starts_no_run_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "launch.yaml").write_text(text)
    with pytest.raises(InputError, match=sentence):
        check_launch_file(tmp_path / "launch.yaml")
