"""What README.md, DATA.md and EXPORT.md show must be there and be understood."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from reid_accel.cli import main as reid_accel
from reid_accel.cli import take_launch_options
from reid_accel.config.parse import parse
from reid_accel.config.schema import Config, PredictionConfig, ScoringConfig

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
DOCUMENTS = "\n".join((REPOSITORY / name).read_text(encoding="utf-8") for name in ("README.md", "DATA.md", "EXPORT.md"))
KINDS = {"train": Config, "score": ScoringConfig, "predict": PredictionConfig}


def understand(script: str, arguments: list[str]) -> None:
    """Parse a script's arguments; exits with a message when they are wrong."""
    kind = KINDS[script]
    parse(kind, arguments, default_recipe="quickstart" if kind is Config else None)


def shown_commands() -> list[str]:
    """Every line of the documents' shell blocks, once."""
    blocks = re.findall(r"```bash\n(.*?)```", DOCUMENTS, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    return list(dict.fromkeys(lines))


def test_there_are_commands() -> None:
    assert len(shown_commands()) >= 10


@pytest.mark.parametrize("command", [c for c in shown_commands() if "accelerate launch" in c])
def test_launch_commands_are_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    words = shlex.split(command.partition("accelerate launch")[2])
    place = next(place for place, word in enumerate(words) if word.startswith(("reid_accel/", "reid_accel.")))
    if "--config_file" in words[:place]:
        assert (REPOSITORY / words[words.index("--config_file") + 1]).is_file()
    if words[place - 1] == "-m":
        assert words[place].startswith("reid_accel.")
    else:
        assert (REPOSITORY / words[place]).is_file()
    script = words[place].removesuffix(".py")[len("reid_accel/") :]
    if script in KINDS:
        understand(script, words[place + 1 :])


@pytest.mark.parametrize("command", [c for c in shown_commands() if c.startswith("python -m ")])
def test_python_commands_run(command: str) -> None:
    words = shlex.split(command)
    done = subprocess.run([sys.executable, *words[1:]], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [c for c in shown_commands() if c.startswith("reid-accel ")])
def test_our_command_is_understood(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(command)[1:]
    if words[0] in KINDS:
        understand(words[0], take_launch_options(words[1:])[0])
        return
    monkeypatch.chdir(tmp_path)  # nothing is there: the files are missed, the words are understood
    with pytest.raises(SystemExit) as left:
        reid_accel(words)
    printed = capsys.readouterr().err
    assert "usage:" not in printed
    assert "options" not in printed, "tyro understood all"
    assert left.value.code == 0 or any(word in printed for word in words[1:] if not word.startswith("-"))


def test_files_that_the_readme_names_exist() -> None:
    for name in re.findall(r"\]\(([^)#:]+)\)", DOCUMENTS):
        assert (REPOSITORY / name).exists(), name
    for name in re.findall(r"`((?:configs|launch|tests|reid_accel)/[\w./-]*)`", DOCUMENTS):
        assert (REPOSITORY / name).exists(), name


def test_the_map_shows_every_room() -> None:
    table = README.partition("## A map of the code")[2].partition("## What it must not")[0]
    rooms = {path.name for path in (REPOSITORY / "reid_accel").iterdir() if path.suffix == ".py" or path.is_dir()}
    for room in sorted(rooms - {"__init__.py", "__pycache__"}):
        assert f"`{room}" in table or f"`{room}/`" in table, f"{room} is not on the README's map"
