"""Which folder a run takes, and how it goes on after a launcher has restarted its processes."""

from pathlib import Path

import pytest
from accelerate import Accelerator

from reid_accel.config.schema import RunConfig
from reid_accel.training.run_dir import choose_run_folder
from reid_accel.training.run_paths import resumed_after_restart


def test_restarted_processes_go_on_where_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = RunConfig(overwrite=True)
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    assert resumed_after_restart(asked) == asked
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert resumed_after_restart(asked) == asked
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    restarted = resumed_after_restart(asked)
    assert (restarted.resume, restarted.overwrite) == ("auto", False), "what is there is not deleted"
    assert resumed_after_restart(RunConfig(resume="a/checkpoint")).resume == "a/checkpoint"


def test_what_a_killed_process_left_is_cleaned_up_when_the_run_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("kept")
    (tmp_path / ".notes.old").write_text("the user's")
    (tmp_path / ".report.json.77.part").write_text("half")
    (tmp_path / ".model.77.part").mkdir()
    (tmp_path / ".model.77.old").mkdir()  # killed before the new model got its name
    choose_run_folder(RunConfig(dir=str(tmp_path), resume="auto"), Accelerator(cpu=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".notes.old", "config.yaml", "model"]
