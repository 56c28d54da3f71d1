import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import IDENTITY, KINDS, SETTINGS, network, save

import reid_accel.training.checkpoint as checkpoint_module
from reid_accel.errors import InputError
from reid_accel.training.checkpoint import (
    RunFingerprint,
    TrainingState,
    newest_checkpoint,
    save_checkpoint,
    set_aside_later,
)
from reid_accel.training.progress import Progress
from reid_accel.training.resume import load_checkpoint


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    images = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(number))
    model(images).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("kind", KINDS)
def test_going_on_is_the_same_as_not_having_stopped(tmp_path: Path, kind: str) -> None:
    model = network()
    optimizer = KINDS[kind](model.parameters())
    for number in range(3):
        step(model, optimizer, number)
    progress = Progress(
        step=3,
        epoch=1,
        position=2,
        best_score=0.1 + 0.2,
        epoch_sums={"images": 16.0, "loss": 0.1},
        history=({"epoch": 1},),
    )
    path = save(tmp_path, model, optimizer, progress)
    other = network(seed=1)
    other_optimizer = KINDS[kind](other.parameters())
    assert load_checkpoint(path, TrainingState(other, other_optimizer), IDENTITY) == progress
    for number in range(3, 6):
        step(model, optimizer, number)
        step(other, other_optimizer, number)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name

    fresh = KINDS[kind](other.parameters())  # the control: weights alone are not enough
    load_checkpoint(path, TrainingState(other, fresh), IDENTITY)
    fresh.state.clear()
    step(other, fresh, 3)
    reference = network()
    reference_optimizer = KINDS[kind](reference.parameters())
    load_checkpoint(path, TrainingState(reference, reference_optimizer), IDENTITY)
    step(reference, reference_optimizer, 3)
    assert not torch.equal(other[0].weight, reference[0].weight)  # type: ignore[index]


def test_only_the_newest_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = network()
    optimizer = KINDS["adam"](model.parameters())
    for number in (1, 5, 100_000_000, 12):
        save(tmp_path, model, optimizer, Progress(step=number))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000012", "step-100000000"]
    assert newest_checkpoint(tmp_path) == tmp_path / "step-100000000"
    assert not caplog.messages


def test_no_file_is_a_pickle(tmp_path: Path) -> None:
    model = network()
    path = save(tmp_path, model, KINDS["sgd"](model.parameters()), Progress())
    assert sorted(file.name for file in path.iterdir()) == [
        "model.safetensors",
        "optimizer.safetensors",
        "progress.json",
    ]


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    optimizer = KINDS["adam"](model.parameters())
    earlier = save(tmp_path, model, optimizer, Progress(step=1))
    before = {file.name: file.read_bytes() for file in earlier.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "write_json", full)
    with pytest.raises(InputError, match=r"No space left.*earlier checkpoints are intact"):
        save(tmp_path, model, optimizer, Progress(step=2))
    assert [path.name for path in tmp_path.iterdir()] == [earlier.name]
    assert {file.name: file.read_bytes() for file in earlier.iterdir()} == before


def test_the_best_epochs_checkpoint_is_kept_too(tmp_path: Path) -> None:
    model = network()
    optimizer = KINDS["adam"](model.parameters())
    for number in range(2, 12, 2):
        save(tmp_path, model, optimizer, Progress(step=number, best_step=4 if number >= 4 else None))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000004", "step-00000008", "step-00000010"]


def test_what_a_killed_writing_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".step-00000001.999.part").mkdir()
    model = network()
    save(tmp_path, model, KINDS["sgd"](model.parameters()), Progress(step=2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]


def spoil_json(path: Path) -> None:
    (path / "progress.json").write_text("{")


def cut_weights(path: Path) -> None:
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content[: len(content) // 2])


def put_a_pickle(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path / "optimizer.safetensors")


def change_format(path: Path) -> None:
    content = json.loads((path / "progress.json").read_text())
    (path / "progress.json").write_text(json.dumps(content | {"format": 99}))


@pytest.mark.parametrize("spoil", [spoil_json, cut_weights, put_a_pickle, change_format])
def test_a_spoilt_checkpoint_is_refused_and_changes_nothing(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    model = network()
    path = save(tmp_path, model, KINDS["adam"](model.parameters()), Progress(step=1))
    spoil(path)
    other = network(seed=1)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(InputError, match="step-00000001"):
        load_checkpoint(path, TrainingState(other, KINDS["adam"](other.parameters())), IDENTITY)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_another_model_other_settings_and_other_images_are_refused(tmp_path: Path) -> None:
    model = network()
    optimizer = KINDS["adam"](model.parameters())
    path = save(tmp_path, model, optimizer, Progress(step=1))
    with pytest.raises(InputError, match="of another model"):
        load_checkpoint(path, TrainingState(torch.nn.Linear(2, 2), optimizer), IDENTITY)
    changed = RunFingerprint({**SETTINGS, "train": {"value": 2}}, "images")
    with pytest.raises(InputError, match=r"train\.value: 1 then, 2 now"):
        load_checkpoint(path, TrainingState(model, optimizer), changed)
    with pytest.raises(InputError, match="files have changed since"):
        load_checkpoint(path, TrainingState(model, optimizer), RunFingerprint(SETTINGS, "others"))


def test_other_test_images_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = network()
    state = TrainingState(model, KINDS["adam"](model.parameters()))
    was = replace(IDENTITY, test_fingerprints={"query": "a", "gallery": "b"})
    path = save_checkpoint(tmp_path, state, Progress(step=1), was, keep=1)
    load_checkpoint(path, state, was)
    assert "have changed" not in caplog.text
    load_checkpoint(path, state, replace(IDENTITY, test_fingerprints={"query": "a", "gallery": "c"}))
    assert "names or labels in gallery have changed since" in caplog.text


def test_the_fingerprint_of_all_splits_in_older_checkpoints_is_understood(tmp_path: Path) -> None:
    model = network()
    state = TrainingState(model, KINDS["adam"](model.parameters()))
    older = replace(IDENTITY, data_fingerprint="gallery1-query111-train111")
    path = save_checkpoint(tmp_path, state, Progress(step=1), older, keep=1)
    load_checkpoint(path, state, replace(IDENTITY, data_fingerprint="train111"))
    with pytest.raises(InputError, match="files have changed since"):
        load_checkpoint(path, state, replace(IDENTITY, data_fingerprint="query111"))


def test_resuming_anyway_logs_what_differs_and_restarts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = network()
    optimizer = KINDS["adam"](model.parameters())
    path = save(tmp_path, model, optimizer, Progress(step=13, epoch=2, position=3, epoch_sums={"images": 8.0}))
    changed = RunFingerprint({**SETTINGS, "train": {"value": 2}}, "others")
    progress = load_checkpoint(path, TrainingState(model, optimizer), changed, anyway=True)
    assert (progress.step, progress.epoch, progress.position, progress.epoch_sums) == (10, 2, 0, {})
    assert "train.value: 1 then, 2 now" in caplog.text
    assert "files have changed" in caplog.text
    with pytest.raises(InputError, match="of another model"):
        load_checkpoint(path, TrainingState(torch.nn.Linear(2, 2), optimizer), changed, anyway=True)


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_anyway_takes_the_new_settings_of_the_optimizer(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = network()
    optimizer = KINDS[kind](model.parameters())
    step(model, optimizer, 0)
    path = save(tmp_path, model, optimizer, Progress(step=1))
    changed = RunFingerprint({**SETTINGS, "train": {"value": 2}}, "images")
    calmer = KINDS[kind](model.parameters())
    calmer.param_groups[0].update(lr=1e-3, weight_decay=0.5)
    load_checkpoint(path, TrainingState(model, calmer), changed, anyway=True)
    assert (calmer.param_groups[0]["lr"], calmer.param_groups[0]["weight_decay"]) == (1e-3, 0.5)
    moments = [[entries["exp_avg" if "exp_avg" in entries else "momentum_buffer"] for entries in each.state.values()]
               for each in (optimizer, calmer)]  # fmt: skip
    assert all(torch.equal(*pair) for pair in zip(*moments, strict=True))
    assert "resuming with other settings" in caplog.text
    assert "without moments" not in caplog.text


def test_another_optimizer_starts_without_moments(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = network()
    optimizer = KINDS["adam"](model.parameters())
    step(model, optimizer, 0)
    path = save_checkpoint(tmp_path, TrainingState(model, optimizer), Progress(step=1), identity_of("adam"), keep=1)
    other = KINDS["sgd"](model.parameters())
    load_checkpoint(path, TrainingState(model, other), identity_of("sgd"), anyway=True)
    assert "starts without moments" in caplog.text
    assert not other.state
    step(model, other, 1)


def test_moments_find_their_parameters_by_name_in_other_groups(tmp_path: Path) -> None:
    model = network()
    optimizer = KINDS["adam"](model.parameters())
    step(model, optimizer, 0)
    path = save(tmp_path, model, optimizer, Progress(step=1))
    other = network(seed=1)
    parameters = list(other.parameters())
    regrouped = torch.optim.Adam([{"params": parameters[2:]}, {"params": parameters[:2][::-1]}], lr=0.1)
    load_checkpoint(path, TrainingState(other, regrouped), IDENTITY)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(optimizer.state[one]["exp_avg"], regrouped.state[two]["exp_avg"])
        assert optimizer.state[one]["step"] == regrouped.state[two]["step"] == 1


def test_a_longer_run_is_told_what_becomes_of_its_learning_rate(tmp_path: Path) -> None:
    model = network()
    optimizer = KINDS["sgd"](model.parameters())
    short = RunFingerprint({**SETTINGS, "train": {"epochs": 3}}, "images")
    path = save_checkpoint(tmp_path, TrainingState(model, optimizer), Progress(step=3, epoch=3), short, keep=1)
    longer = RunFingerprint({**SETTINGS, "train": {"epochs": 5}}, "images")
    with pytest.raises(InputError, match=r"--run\.resume-anyway \(continues to epoch 5; the learning rate follows"):
        load_checkpoint(path, TrainingState(model, optimizer), longer)


def identity_of(optimizer: str) -> RunFingerprint:
    return RunFingerprint({**SETTINGS, "optim": {"name": optimizer}}, "images")


def test_another_number_of_processes_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = network()
    optimizer = KINDS["adam"](model.parameters())
    path = save(tmp_path, model, optimizer, Progress(step=13, epoch=2, position=3))
    more = RunFingerprint(SETTINGS, "images", world_size=2)
    assert load_checkpoint(path, TrainingState(model, optimizer), more).position == 3
    assert "from 1 processes, this run has 2" in caplog.text


def test_averaged_weights_are_kept(tmp_path: Path) -> None:
    model, average, other = network(0), network(1), network(2)
    optimizer = KINDS["adam"](model.parameters())
    path = save_checkpoint(tmp_path, TrainingState(model, optimizer, None, average), Progress(step=1), IDENTITY, keep=1)
    again = network(3)
    load_checkpoint(path, TrainingState(again, KINDS["adam"](again.parameters()), None, other), IDENTITY)
    assert torch.equal(other[0].weight, average[0].weight)  # type: ignore[index]
    assert not torch.equal(other[0].weight, model[0].weight)  # type: ignore[index]


def test_a_folder_of_pickles_is_refused_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "executed",))

    folder = tmp_path / "step-00000003"
    folder.mkdir()
    torch.save(Harm(), folder / "pytorch_model.bin")
    model = network()
    with pytest.raises(InputError, match=r"contains pytorch_model\.bin, and pickles are never read"):
        load_checkpoint(folder, TrainingState(model, KINDS["sgd"](model.parameters())), IDENTITY)
    assert newest_checkpoint(tmp_path) is None
    assert "never read" in caplog.text
    assert not (tmp_path / "executed").exists()


def test_nothing_to_resume_is_a_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = network()
    assert newest_checkpoint(tmp_path) is None
    assert not caplog.messages
    with pytest.raises(InputError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "none", TrainingState(model, KINDS["sgd"](model.parameters())), IDENTITY)


def test_one_that_was_being_replaced_comes_back(tmp_path: Path) -> None:
    model = network()
    optimizer = KINDS["sgd"](model.parameters())
    path = save(tmp_path, model, optimizer, Progress(step=3))
    path.rename(tmp_path / f".{path.name}.123.old")  # killed before the new one got the name
    (tmp_path / f".{path.name}.123.part").mkdir()
    assert newest_checkpoint(tmp_path) == path
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    again = save(tmp_path, model, optimizer, Progress(step=3, epoch=1))
    assert json.loads((again / "progress.json").read_text())["progress"]["epoch"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_going_back_sets_later_checkpoints_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = network()
    optimizer = KINDS["sgd"](model.parameters())
    first = save(tmp_path, model, optimizer, Progress(step=3))
    save(tmp_path, model, optimizer, Progress(step=5))
    set_aside_later(tmp_path, 3)
    assert newest_checkpoint(tmp_path) == first
    assert (tmp_path / "undone-step-00000005").is_dir()
    assert len(caplog.messages) == 1


def test_lab_mates_may_read_a_checkpoint(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        model = network()
        path = save(tmp_path, model, KINDS["sgd"](model.parameters()), Progress(step=3))
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o644}
