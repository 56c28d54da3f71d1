"""The log of a run: one line per call, what a resumed run forgets, further trackers."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType
from helpers.launching import TINY

from reid_accel.errors import InputError
from reid_accel.reporting.tracking import Tracking, start_trackers
from reid_accel.train import main as train


class OtherProcess:
    """What Tracking uses of an Accelerator, on a process that is not the main one."""

    is_main_process = False
    project_configuration = SimpleNamespace()

    def log(self, values: dict[str, Any], step: int) -> None:
        pass

    def end_training(self) -> None:
        pass


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_each_call_is_one_line_that_is_on_disk_at_once(tmp_path: Path, accelerator: Accelerator) -> None:
    tracking = Tracking(tmp_path, accelerator)
    tracking.log(10, {"epoch": 1, "loss": 2.5})
    assert _lines(tmp_path) == [{"step": 10, "epoch": 1, "loss": 2.5}]
    tracking.log(20, {"epoch": 1, "loss": float("nan"), "validation_mAP": None})
    assert _lines(tmp_path)[1] == {"step": 20, "epoch": 1, "loss": None, "validation_mAP": None}


def test_a_resumed_run_forgets_what_it_will_do_again(tmp_path: Path, accelerator: Accelerator) -> None:
    first = Tracking(tmp_path, accelerator)
    for step in (1, 2, 2, 3):  # the second line of step 2 is the epoch's, and was written after the checkpoint
        first.log(step, {"loss": step})
    assert first.lines == 4
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 2, "train_lo')  # killed while writing
    resumed = Tracking(tmp_path, accelerator, resume_step=2, resume_lines=2)
    resumed.log(3, {"loss": 30})
    assert [(line["step"], line["loss"]) for line in _lines(tmp_path)] == [(1, 1), (2, 2), (3, 30)]
    assert resumed.lines == 3
    anew = Tracking(tmp_path, accelerator, resume_step=1, resume_lines=3)  # an epoch that begins again
    assert anew.lines == len(_lines(tmp_path)) == 1


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 9}\n')
    other: Any = OtherProcess()
    tracking = Tracking(tmp_path, other, resume_step=1, resume_lines=1)
    tracking.log(5, {"loss": 1.0})
    tracking.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 9}\n'


def test_an_unknown_tracker_is_named_with_a_suggestion(tmp_path: Path, accelerator: Accelerator) -> None:
    with pytest.raises(InputError, match="did you mean tensorboard"):
        Tracking(tmp_path, accelerator, ["tensorbord"])


def test_a_tracker_that_is_not_installed_is_named_with_the_command(
    tmp_path: Path, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid_accel.reporting.tracking.get_available_trackers", lambda: [])
    with pytest.raises(InputError, match="pip install comet-ml"):
        Tracking(tmp_path, accelerator, ["comet_ml"])
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_gets_the_same_numbers_and_the_settings(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = {"train": {"epochs": 2, "size": (128, 64), "resume": None}}
    tracking = Tracking(tmp_path, Accelerator(cpu=True), ["tensorboard"], settings)
    tracking.log(7, {"epoch": 1, "loss": 1.25, "losses": {"identity": 1.0}, "validation_mAP": None})
    tracking.close()
    events = EventAccumulator(str(tmp_path / "reid_accel")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(7, 1.25)]
    assert [(event.step, event.value) for event in events.Scalars("losses.identity")] == [(7, 1.0)]
    assert _lines(tmp_path)[0]["loss"] == 1.25


class FakeTracker(GeneralTracker):
    """A tracker of the package `wandb` as Accelerate starts it, which keeps what it gets."""

    name = "wandb"
    requires_logging_directory = False
    key = True
    got: ClassVar[list[Any]] = []

    def __init__(self, project: str, **arguments: Any) -> None:
        super().__init__(_blank=True)
        self.arguments = {"project": project, **arguments}

    @property
    def tracker(self) -> Any:
        return self

    def start(self) -> None:
        if not self.key:
            raise type("UsageError", (Exception,), {"__module__": "wandb.errors"})("No API key configured.")
        self.got.append(self.arguments)

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.got.append(values)

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.got.append((step, values))

    def finish(self) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeTracker]:
    FakeTracker.got.clear()
    monkeypatch.setattr(FakeTracker, "key", True)
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", FakeTracker)
    for place in ("reid_accel.reporting.tracking", "accelerate.tracking"):
        monkeypatch.setattr(f"{place}.get_available_trackers", lambda: [LoggerType.WANDB, LoggerType.TENSORBOARD])
    return FakeTracker


def run_with_trackers(root: Path, folder: Path, *more: str) -> None:
    train(
        [
            *TINY, "--data.name=market-layout", f"--data.root={root}", f"--data.cache-dir={root}-cache",
            "--data.validation-share=0", "--train.epochs=1", "--train.batch-size=8", f"--run.dir={folder}",
            "--run.trackers", "wandb", *more,
        ]
    )  # fmt: skip


def test_trackers_get_the_runs_name_and_its_final_scores(
    small_market: Path, tmp_path: Path, fake: type[FakeTracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    run_with_trackers(small_market, tmp_path / "run", "--run.name=mine", "--score.rerank")
    assert fake.got[0] == {"project": "reid_accel", "name": "mine"}
    assert fake.got[1]["run.name"] == "mine"
    report = json.loads((tmp_path / "run/report.json").read_text())
    step, final = fake.got[-1]
    assert step == report["training"]["steps"]
    plain, reranked = report["retrieval"]
    assert final["final/market1501/mAP"] == plain["mAP"]
    assert final["final/market1501/rank-1"] == plain["cmc"]["1"]
    assert final["final/market1501/rerank/mAP"] == reranked["mAP"]
    assert all(re.fullmatch(r"[-_./ \w]+", name, re.ASCII) for name in final)
    assert "final" not in (tmp_path / "run/metrics.jsonl").read_text()


def test_a_tracker_that_cannot_be_started_leaves_no_folder_and_no_run_overwritten(
    small_market: Path, tmp_path: Path, fake: type[FakeTracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(fake, "key", False)
    with pytest.raises(SystemExit) as left:
        run_with_trackers(small_market, tmp_path / "run")
    assert left.value.code == 2
    cause = left.value.__context__
    assert isinstance(cause, InputError)
    assert "wandb cannot be started (No API key configured.): log in to it first" in str(cause)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(fake, "key", True)
    run_with_trackers(small_market, tmp_path / "run")
    kept = (tmp_path / "run/report.json").read_bytes()
    monkeypatch.setattr(fake, "key", False)
    with pytest.raises(SystemExit):
        run_with_trackers(small_market, tmp_path / "run", "--run.overwrite")
    assert (tmp_path / "run/report.json").read_bytes() == kept


def test_a_trackers_own_fault_is_not_hidden(fake: type[FakeTracker], monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(self: FakeTracker) -> None:
        raise KeyError("a bug of ours")

    monkeypatch.setattr(fake, "start", fault)
    with pytest.raises(KeyError):
        start_trackers(Accelerator(cpu=True), ["wandb"], {}, "mine")
