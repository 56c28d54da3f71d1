"""`reid-accel`: exit codes and sentences as a student or a CI job meets them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from helpers.launching import REPOSITORY, command, environment

import reid_accel
from reid_accel.cli import main, take_launch_options
from reid_accel.course.submission import write_classification, write_rank_lists
from reid_accel.launcher import launcher_arguments

NAMES = [f"{number:06d}.jpg" for number in range(6)]
QUERIES = ["900001.jpg", "900002.jpg"]


@pytest.fixture
def handed_in(tmp_path: Path) -> Path:
    for folder, names in (("test", NAMES), ("queries", QUERIES)):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    write_classification(tmp_path / "classification_test.csv", NAMES, np.zeros((6, 12), int))
    write_rank_lists(tmp_path / "reid_test.txt", QUERIES, [NAMES, NAMES[::-1]])
    return tmp_path


def _run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    assert isinstance(left.value.code, int)
    return left.value.code


def _check(folder: Path, *more: object) -> int:
    files = [folder / "reid_test.txt", folder / "classification_test.csv"]
    return _run("check-submission", *files, "--test", folder / "test", "--queries", folder / "queries", *more)


def test_a_right_pair_of_files_gives_a_sentence_each_and_exit_code_0(
    handed_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _check(handed_in) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2
    assert all("without problems" in line for line in printed)


def test_problems_are_printed_as_file_line_message_with_exit_code_1(
    handed_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = handed_in / "classification_test.csv"
    path.write_text(path.read_text().replace("000002.jpg,1", "000002.jpg,9"))
    assert _check(handed_in) == 1
    assert f"{path}:4: age must be an integer from 1 to 4, got '9'" in capsys.readouterr().out


def test_files_that_are_no_images_are_named(handed_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (handed_in / "test" / "000099.avif").touch()
    assert _check(handed_in) == 0
    assert f"files in {handed_in / 'test'} are left out: 1 .avif (000099.avif)" in capsys.readouterr().err


def test_the_length_of_the_lists_is_an_option(handed_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _check(handed_in, "--length", 5) == 1
    assert "6 names in the list, expected 5" in capsys.readouterr().out


def test_without_folders_the_sentence_says_what_was_not_compared(
    handed_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("check-submission", handed_in / "reid_test.txt", "--length", 6) == 0
    assert "give --test and --queries" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check-submission", "absent.csv"], "absent.csv: No such file"),
        (["check-submission", "."], "Is a directory"),
        (["check-submission", "reid_test.txt", "--test", "absent"], "there is no folder or image absent"),
        (["check-submission", "reid_test.txt", "--length", "0"], "1 or more"),
        (["check-submission"], "needs the files to check"),
        (["push", "test", "user/name", "--dry-run"], "not a saved model"),
        (["push", "absent", "user/name"], "is not a folder"),
        (["push", "test", "name"], "user/name"),
        ([], "train"),
        (["trian"], "Available subcommands: train, score, predict"),
        (["push"], "Required options"),
        (["recipes", "nowhere"], "there is no recipe nowhere: give the path of a YAML file, or one of apr, bot"),
        (["train", "--nproc", "none"], "--nproc must be the number of processes, 1 or more, got 'none'"),
        (["train", "--launch", "many_gpus"], "there is no launch file many_gpus"),
        (["train", "--config", "nowhere"], "there is no recipe nowhere"),
        (["train", "--data.name", "market1501", "--data.root", "absent"], "there is no folder absent"),
        (["score", "--model", "absent"], "there is no model folder absent"),
        (["predict", "--model", "absent", "--queries", "test", "--test", "test"], "there is no model folder absent"),
    ],
)
def test_misuse_is_one_sentence_on_stderr_and_exit_code_2(
    handed_in: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(handed_in)
    assert _run(*arguments) == 2
    printed = capsys.readouterr()
    assert words in " ".join(printed.err.replace("│", " ").split())
    assert printed.out == ""


def test_a_dry_run_lists_files_and_sizes(handed_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = handed_in / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(bytes(1500))
    assert _run("push", model, "user/name", "--dry-run", "--visibility=private") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["       2 B  config.json", "    1.5 kB  model.safetensors"]
    assert "2 files, 1.5 kB, would be pushed to" in printed[2]
    assert printed[2].endswith("user/name (private)")


def test_recipes_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("recipes") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(path.stem for path in (REPOSITORY / "configs").glob("*.yaml"))
    assert all(line.endswith(".") for line in lines), "one sentence each"
    assert _run("recipes", "bot") == 0
    assert capsys.readouterr().out == (REPOSITORY / "configs/bot.yaml").read_text(encoding="utf-8")


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--version") == 0
    assert capsys.readouterr().out == f"reid_accel {reid_accel.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["recipes"],
        ["train", "--help", "data"],
        ["score", "--help"],
        ["predict", "--help"],
        ["check-submission", "--help"],
        ["check-submission", "absent.csv"],
        ["train", "--data.name", "market1501", "--data.root", "absent", "--model.pretrained"],
    ],
)
def test_help_and_mistakes_are_answered_without_torch(arguments: list[str]) -> None:
    """Importing it takes seconds: a wrong folder must not wait for that, nor for a download of weights."""
    code = (
        "import sys, reid_accel.cli\n"
        f"try: reid_accel.cli.main({arguments!r})\n"
        "finally: print('imported:', [m for m in ('torch', 'accelerate', 'datasets', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("imported: []\n"), done.stdout + done.stderr


@pytest.mark.parametrize("script", ["train", "score", "predict"])
def test_help_of_a_script_is_shown_without_torch(script: str, tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['{script}.py', '--help']\n"
        f"try: runpy.run_path({str(REPOSITORY / 'reid_accel' / script) + '.py'!r}, run_name='__main__')\n"
        "finally: print('imported:', [m for m in ('torch', 'accelerate', 'datasets', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "usage:" in done.stdout
    assert done.stdout.endswith("imported: []\n"), done.stdout + done.stderr


def test_launch_options_are_taken_out_of_the_arguments() -> None:
    words = ["--train.epochs", "3", "--nproc", "2", "--launch=multi_gpu", "--run.name", "x"]
    rest, processes, launch_file = take_launch_options(words)
    assert rest == ["--train.epochs", "3", "--run.name", "x"]
    assert (processes, launch_file) == (2, REPOSITORY / "launch/multi_gpu.yaml")
    assert launcher_arguments(processes, launch_file)[-4:] == [
        "--config_file",
        str(launch_file),
        "--num_processes",
        "2",
    ]
    assert take_launch_options(["--run.name", "x"]) == (["--run.name", "x"], 1, None)


def test_the_answers_of_accelerate_config_do_not_reach_our_own_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = "distributed_type: DEEPSPEED\nmachine_rank: 1\nnum_machines: 2\nnum_processes: 4\ngpu_ids: '0'\n"
    (tmp_path / "default_config.yaml").write_text(answers + "mixed_precision: bf16\nmain_process_ip: 10.0.0.1\n")
    for module in ("accelerate.commands.config.config_args", "accelerate.commands.launch"):
        monkeypatch.setattr(f"{module}.default_config_file", str(tmp_path / "default_config.yaml"))
    parsed = launch_command_parser().parse_args([*launcher_arguments(2, None), "-m", "x"])
    arguments, _, _ = _validate_launch_command(parsed)
    assert (arguments.multi_gpu, arguments.use_deepspeed) == (True, False)
    assert (arguments.num_processes, arguments.num_machines, arguments.machine_rank) == (2, 1, 0)
    assert (arguments.mixed_precision, arguments.gpu_ids) == ("no", "all")


@pytest.mark.launch
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data.name=market1501", "--data.root=absent"], "there is no folder absent"),
        (["--model.backbone=resnt18"], "there is no model 'resnt18'"),
    ],
    ids=["before torch is imported", "after"],
)
@pytest.mark.parametrize("launcher", ["reid-accel", "accelerate", pytest.param("torchrun", marks=pytest.mark.long)])
def test_several_processes_print_a_mistake_once(
    launcher: str, arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    words = command(REPOSITORY / "reid_accel/train.py", *arguments, processes=2)
    if launcher == "torchrun":
        script = words.index(str(REPOSITORY / "reid_accel/train.py"))
        words = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", *words[script:]]
    elif launcher == "reid-accel":
        words = [sys.executable, "-m", "reid_accel.cli", "train", "--nproc", "2", *arguments]
    done = subprocess.run(words, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=200)
    printed = done.stdout + done.stderr
    assert printed.count(sentence) == 1, printed
    assert done.returncode == (2 if launcher == "reid-accel" else 1)
    if launcher == "reid-accel":
        assert len(done.stderr.splitlines()) == 3, f"nothing but the frame: {printed}"
