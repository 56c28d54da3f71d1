"""Which folder a run takes, and how it goes on after a launcher has restarted its processes."""

import multiprocessing
import multiprocessing.connection
import multiprocessing.synchronize
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from accelerate import Accelerator
from helpers.checkpoints import KINDS, network, save
from helpers.full_disk import files_of_at_most

from reid_accel.config.parse import recipe_config, to_yaml
from reid_accel.config.schema import Config, ModelConfig, RunConfig
from reid_accel.errors import InputError
from reid_accel.files import write_json, write_text
from reid_accel.models.architecture import Architecture
from reid_accel.models.reid import ReIDModel
from reid_accel.training.progress import Progress
from reid_accel.training.run_dir import choose_run_folder, save_model
from reid_accel.training.run_paths import check_run_folder, resumed_after_restart


def make_run(folder: Path, name: str = "run") -> Path:
    """A folder with all that a finished run leaves."""
    config = recipe_config(Config, "quickstart")
    write_text(folder / "config.yaml", to_yaml(config).replace("name: quickstart", f"name: {name}"))
    write_text(folder / "metrics.jsonl", '{"step": 1}\n')
    model = network()
    save(folder / "checkpoints", model, KINDS["sgd"](model.parameters()), Progress(step=1))
    save(folder / "checkpoints", model, KINDS["sgd"](model.parameters()), Progress(step=2))
    (folder / "checkpoints" / "step-00000001").rename(folder / "checkpoints" / "undone-step-00000001")
    write_json(folder / "model" / "config.json", {"architecture": {"model": {"backbone": "osnet_x1_0"}}})
    for name in ("model/model.safetensors", "model/README.md", "report.html", "reid_test.txt"):
        (folder / name).touch()
    write_json(folder / "report.json", {"format": 1, "retrieval": []})
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_overwritten_and_what_else_is_there_stays(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "notes.txt").write_text("the user's")
    (folder / "figures").mkdir()
    choose_run_folder(RunConfig(dir=str(folder), overwrite=True), Accelerator(cpu=True))
    assert sorted(path.name for path in folder.iterdir()) == ["figures", "notes.txt"]


def add(name: str, text: str = "the user's") -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write_text(folder / name, text)

    return change


def without_settings(folder: Path) -> None:
    (folder / "config.yaml").unlink()


def only_a_recipe(folder: Path) -> None:
    """A working folder with a copied recipe, own code and own results."""
    for path in [path for path in folder.rglob("*") if path.is_file() and path.name != "config.yaml"]:
        path.unlink()
    write_text(folder / "model" / "network.py", "the user's")


@pytest.mark.parametrize(
    "change",
    [
        without_settings, only_a_recipe, add("config.yaml"), add("config.yaml", "data: {}\nmodel: {}\n"),
        add("config.yaml", "- a list"), add("config.yaml", "{"), add("model/network.py"), add("model/sub/weights.bin"),
        add("model/config.json", '{"architectures": ["Bert"]}'), add("model/config.json", '{"architecture": 3}'),
        add("checkpoints/best.pt"), add("checkpoints/step-00000002-good/model.safetensors"),
        add("metrics.jsonl", '{"loss": 1}\n'), add("metrics.jsonl", "[[[["), add("report.json", '{"pages": 3}'),
        add("report.json", "3"),
    ],
)  # fmt: skip
def test_overwriting_deletes_nothing_where_anything_may_be_the_users(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = make_run(tmp_path / "run")
    change(folder)
    before, config = content(folder), RunConfig(dir=str(folder), overwrite=True)
    for refuse in (check_run_folder, lambda config: choose_run_folder(config, Accelerator(cpu=True))):
        with pytest.raises(InputError, match=r"not known to be of a run, so --run\.overwrite deletes nothing"):
            refuse(config)
    assert content(folder) == before


def test_overwriting_follows_no_links(tmp_path: Path) -> None:
    folder, elsewhere = make_run(tmp_path / "run"), tmp_path / "elsewhere"
    (folder / "model").rename(elsewhere)
    (folder / "model").symlink_to(elsewhere)
    choose_run_folder(RunConfig(dir=str(folder), overwrite=True), Accelerator(cpu=True))
    assert list(folder.iterdir()) == []
    assert len(list(elsewhere.iterdir())) == 3


def test_a_folder_with_runs_is_no_run(tmp_path: Path) -> None:
    make_run(tmp_path / "model")  # a run of this name
    make_run(tmp_path / "checkpoints")
    with pytest.raises(InputError, match="deletes nothing"):
        choose_run_folder(RunConfig(dir=str(tmp_path), overwrite=True), Accelerator(cpu=True))


def test_another_runs_name_with_a_number_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, name in (("cam", "cam"), ("cam-2", "cam-2"), ("day", "day"), ("day-2", "day"), ("hour-2", "hour")):
        make_run(Path("runs") / folder, name)
    before = content(Path("runs/cam-2"))
    others = content(Path("runs/hour-2"))
    accelerator = Accelerator(cpu=True)
    for name, folder in (("cam", "cam"), ("day", "day-2")):
        assert choose_run_folder(RunConfig(name=name, resume="auto"), accelerator) == Path("runs") / folder
        assert choose_run_folder(RunConfig(name=name), accelerator) == Path("runs") / f"{name}-3"
        choose_run_folder(RunConfig(name=name, overwrite=True), accelerator)
        assert not (Path("runs") / folder / "config.yaml").exists()
    assert choose_run_folder(RunConfig(name="hour-2", overwrite=True), accelerator) == Path("runs/hour-2-2")
    assert content(Path("runs/hour-2")) == others
    assert content(Path("runs/cam-2")) == before


def test_a_chosen_checkpoint_is_resumed_in_its_own_run_and_in_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resuming renames later checkpoints and cuts the log: in another run's folder, that run would be lost."""
    monkeypatch.chdir(tmp_path)
    for folder in ("day", "day-2", "day-3"):
        make_run(Path("runs") / folder, "day")
    accelerator, checkpoint = Accelerator(cpu=True), "runs/day-2/checkpoints/step-00000002"
    assert choose_run_folder(RunConfig(name="day", resume=checkpoint), accelerator) == Path("runs/day-2")
    assert choose_run_folder(RunConfig(name="night", resume=checkpoint), accelerator) == Path("runs/night")
    make_run(Path("runs/night"), "night")
    for config in (RunConfig(name="night", resume=checkpoint), RunConfig(dir="runs/day", resume=checkpoint)):
        with pytest.raises(InputError, match="already holds another run than the checkpoint"):
            choose_run_folder(config, accelerator)
    assert choose_run_folder(RunConfig(dir="new", resume=checkpoint), accelerator) == Path("new")


@pytest.mark.parametrize(
    "name",
    [
        "", " ", ".", "..", "../x", "a/b", "/tmp/x", "a\\b", ".hidden", "-rf", "--run.dir", "~", "~root", "a\nb",
        "a\x1b[31m", "a\u202eb", "a\udcff", "a\0b", "x" * 101, "ü" * 51, "x" * 10**6, "nul", "COM1.txt", "con", "a.",
        "a ", "C:", "a*", "a?",
    ],
)  # fmt: skip
def test_a_name_that_is_no_folder_name_everywhere_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^run\.name must be a folder's name") as refused:
        RunConfig(name=name)
    assert len(str(refused.value)) < 1200


@pytest.mark.parametrize(
    "name", ["x", "x" * 100, "Größe 2", "[red]x[bold]", "a.b-c_d", "10", "日本", "a=b,c", "console", "common"]
)
def test_other_names_are_taken(name: str) -> None:
    assert RunConfig(name=name).name == name


@pytest.mark.parametrize("folder", ["", " "])
def test_an_empty_run_folder_is_refused(folder: str) -> None:
    with pytest.raises(InputError, match=r"run\.dir must be a folder's path"):
        RunConfig(dir=folder)


def take_a_folder(sender: "multiprocessing.connection.Connection", ended: "multiprocessing.synchronize.Event") -> None:
    with ExitStack() as held:
        sender.send(str(choose_run_folder(RunConfig(name="same"), Accelerator(cpu=True), held)))
        ended.wait(60)


def test_fresh_runs_of_one_name_started_together_take_different_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe()
    ended = context.Event()
    processes = [context.Process(target=take_a_folder, args=(sender, ended)) for _ in range(8)]
    for process in processes:
        process.start()
    folders = sorted(receiver.recv() for _ in processes)
    ended.set()
    for process in processes:
        process.join()
    assert folders == ["runs/same", *(f"runs/same-{number}" for number in range(2, 9))]
    assert not list(tmp_path.rglob(".lock")), "nothing is left"


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


def test_a_full_disk_leaves_the_earlier_model(tmp_path: Path) -> None:
    settings = ModelConfig(backbone="test_resnet", height_px=64, width_px=32, neck_units=8)
    save_model(ReIDModel(Architecture(model=settings, num_identities=3)), tmp_path / "model")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    other = ReIDModel(Architecture(model=settings, num_identities=5))
    for room in (0, 500, 10_000):
        with (
            files_of_at_most(room),
            pytest.raises(InputError, match=r"the model could not be saved to .+intact"),
        ):
            save_model(other, tmp_path / "model")
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    save_model(other, tmp_path / "model")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} != before
