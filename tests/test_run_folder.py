"""Which folder a run takes, and how it goes on after a launcher has restarted its processes."""

import pytest

from reid_accel.config import RunConfig
from reid_accel.training.run_folder import resumed_after_restart


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
