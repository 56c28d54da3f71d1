"""Damaged checkpoints: every changed bit is found, an older one takes their place, nothing is lost."""

import json
import random
import shutil
from pathlib import Path

import pytest
from helpers.checkpoints import IDENTITY, KINDS, network, save

import reid_accel.training.checkpoint as checkpoint_module
from reid_accel.config.schema import RunConfig
from reid_accel.errors import InputError
from reid_accel.training.checkpoint import (
    TrainingState,
    newest_checkpoint,
    save_checkpoint,
    set_aside_later,
)
from reid_accel.training.progress import Progress
from reid_accel.training.resume import load_checkpoint, resume


@pytest.mark.parametrize("damage", ["a file less", "cut", "one wrong byte", "an empty folder", "another file's name"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = network()
    optimizer = KINDS["adam"](model.parameters())
    older = save(tmp_path, model, optimizer, Progress(step=1))
    newer = save(tmp_path, model, optimizer, Progress(step=2))
    weights = newer / "model.safetensors"
    content = weights.read_bytes()
    if damage == "a file less":
        (newer / "optimizer.safetensors").unlink()
    elif damage == "cut":
        weights.write_bytes(content[:-1])
    elif damage == "one wrong byte":
        weights.write_bytes(content[:-9] + bytes([content[-9] ^ 4]) + content[-8:])
    elif damage == "an empty folder":
        shutil.rmtree(newer)
        newer.mkdir()
    else:
        weights.write_bytes((newer / "optimizer.safetensors").read_bytes())
    assert newest_checkpoint(tmp_path) == older
    assert len(caplog.messages) == 1
    assert "step-00000002" in caplog.text


def test_every_flipped_bit_of_the_progress_is_found_or_harmless(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = network()
    optimizer = KINDS["adam"](model.parameters())
    older = save(tmp_path, model, optimizer, Progress(step=1))
    progress = Progress(step=2, epoch=1, position=1, best_score=0.3, epoch_sums={"loss": 0.1}, history=({"epoch": 1},))
    file = save(tmp_path, model, optimizer, progress) / "progress.json"
    content, intact = file.read_bytes(), json.loads(file.read_text())
    chance, found = random.Random(0), 0
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << chance.randrange(8)
        file.write_bytes(flipped)
        caplog.clear()
        newest = newest_checkpoint(tmp_path)
        assert newest in (older, file.parent)
        assert newest == older or json.loads(file.read_text()) == intact, content[place - 9 : place + 9]
        assert [file.parent.name in message for message in caplog.messages] == [True] * (newest == older)
        found += newest == older
    assert found > 0.6 * len(content), "most bytes are no indentation"
    file.write_bytes(content)
    assert newest_checkpoint(tmp_path) == file.parent, "the control"


@pytest.mark.parametrize("where", ["step", "epoch", "position", "best_step"])
def test_a_changed_count_is_refused_in_a_chosen_checkpoint(tmp_path: Path, where: str) -> None:
    model = network()
    optimizer = KINDS["adam"](model.parameters())
    path = save(tmp_path, model, optimizer, Progress(step=2, epoch=2, position=2, best_step=2))
    text = (path / "progress.json").read_text()
    (path / "progress.json").write_text(text.replace(f'"{where}": 2', f'"{where}": 3'))
    with pytest.raises(InputError, match=r"step-00000002 cannot be used: progress\.json is damaged"):
        load_checkpoint(path, TrainingState(model, optimizer), IDENTITY)


def test_a_checkpoint_of_an_earlier_version_has_no_checksum_and_is_read(tmp_path: Path) -> None:
    model = network()
    optimizer = KINDS["adam"](model.parameters())
    path = save(tmp_path, model, optimizer, Progress(step=2, epoch=2))
    content = json.loads((path / "progress.json").read_text())
    del content["checksum"]
    (path / "progress.json").write_text(json.dumps(content | {"format": 4}))
    assert load_checkpoint(path, TrainingState(model, optimizer), IDENTITY).epoch == 2
    for change in ({"format": 5}, {"format": 4, "progress": {}}, {"format": 4, "config": 3}, {"format": 6}):
        (path / "progress.json").write_text(json.dumps(content | change))
        with pytest.raises(InputError, match="step-00000002"):
            load_checkpoint(path, TrainingState(model, optimizer), IDENTITY)


def test_a_damaged_newest_checkpoint_makes_room_for_new_ones(tmp_path: Path) -> None:
    """Otherwise a checkpoint after the older one would be the oldest of those kept, and deleted at once."""
    model = network()
    state = TrainingState(model, KINDS["adam"](model.parameters()))
    for number in (2, 9):
        save(tmp_path, model, state.optimizer, Progress(step=number))
    (tmp_path / "step-00000009" / "progress.json").write_text("{")
    assert resume(RunConfig(resume="auto"), tmp_path, state, IDENTITY).step == 2
    for number in (3, 4):
        save_checkpoint(tmp_path, state, Progress(step=number), IDENTITY, keep=1)
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000004"
    assert (tmp_path / "undone-step-00000009").is_dir(), "nothing is lost"


def test_no_usable_checkpoint_starts_anew_and_keeps_the_damaged_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = network()
    state = TrainingState(model, KINDS["adam"](model.parameters()))
    (save(tmp_path, model, state.optimizer, Progress(step=9)) / "progress.json").write_text("{")
    assert resume(RunConfig(resume="auto"), tmp_path, state, IDENTITY) == Progress()
    assert "step-00000009" in caplog.text
    save(tmp_path, model, state.optimizer, Progress(step=1))
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000001", "undone-step-00000009"}


def test_a_users_copy_of_a_checkpoint_is_no_checkpoint_of_the_run(tmp_path: Path) -> None:
    model = network()
    optimizer = KINDS["adam"](model.parameters())
    path = save(tmp_path, model, optimizer, Progress(step=1))
    shutil.copytree(path, tmp_path / "step-00000001-good")
    shutil.copytree(path, tmp_path / "undone-step-00000002")
    for number in (2, 3):
        path = save_checkpoint(tmp_path, TrainingState(model, optimizer), Progress(step=number), IDENTITY, keep=1)
    assert newest_checkpoint(tmp_path) == path
    save(tmp_path, model, optimizer, Progress(step=2))
    set_aside_later(tmp_path, 1)
    assert {path.name for path in tmp_path.iterdir()} == {
        "step-00000001-good", "undone-step-00000002", "undone-step-00000002-2", "undone-step-00000003",
    }  # fmt: skip


def test_a_checkpoint_that_may_not_be_read_is_no_damaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    optimizer = KINDS["adam"](model.parameters())
    save(tmp_path, model, optimizer, Progress(step=1))
    save(tmp_path, model, optimizer, Progress(step=2))

    def denied(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(checkpoint_module, "read_text", denied)
    with pytest.raises(InputError, match=r"step-00000002/progress\.json: Permission denied; change its owner"):
        newest_checkpoint(tmp_path)
