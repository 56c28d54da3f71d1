"""The training script in this process: its files, and what it says to a user's mistakes."""

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.launching import TINY, read_json
from helpers.made_sets import make_market
from PIL import Image
from safetensors.torch import load_file

from reid_accel import ReIDModel, train_model
from reid_accel import score as score_script
from reid_accel import train as train_script
from reid_accel.attributes.annotations import write_market_mat
from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.config.parse import parse
from reid_accel.config.schema import Config
from reid_accel.course.submission import check_classification, check_rank_lists
from reid_accel.errors import InputError
from reid_accel.files import write_json
from reid_accel.models.outputs import Outputs
from reid_accel.predict import main as predict
from reid_accel.score import main as score
from reid_accel.train import main as train
from reid_accel.training.dataloader import Batch


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.delenv("HF_TOKEN", raising=False)


def settings(root: Path, *more: str) -> list[str]:
    """A run of a second: tiny network, two epochs."""
    base = [*TINY, "--data.name=market-layout", f"--data.root={root}", "--data.cache-dir=cache"]
    base += ["--data.validation-share=0.15"]
    return [*base, "--train.epochs=2", "--train.batch-size=8", "--train.validate-every-epochs=1", *more]


def annotate(root: Path, pids: range) -> None:
    rng = np.random.default_rng(3)
    people = {pid: tuple(int(rng.integers(len(group.values))) for group in MARKET_GROUPS) for pid in pids}
    write_market_mat(root / "market_attribute.mat", people, people)


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """Run train.py and return the sentence that it ended with."""
    return refused_by(train, capsys, arguments)


def refused_by(script: Callable[[list[str]], None], capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """Run a script and return the sentence that it ended with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as info:
        script(arguments)
    assert info.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return " ".join(said.replace("│", " ").split())


def test_a_run_leaves_everything_it_promises(small_market: Path) -> None:
    annotate(small_market, range(1, 13))
    train(
        settings(
            small_market, "--run.dir=run", "--run.trackers=tensorboard", "--score.rerank", "--score.query-expansion=3"
        )
    )
    run = Path("run")
    for name in ("config.yaml", "report.json", "report.html", "metrics.jsonl", "model/README.md", "junk_scores.tsv"):
        assert (run / name).stat().st_size > 0, name
    report = read_json(run / "report.json")
    kinds = [(entry["protocol"], entry["rerank"], entry["query_expansion"]) for entry in report["retrieval"]]
    assert [kind[0] for kind in kinds] == ["market1501"] * 3 + ["course", "course-strict", "market1501"]
    assert kinds[0][1:] == (None, None)
    assert kinds[1][1] is not None
    assert kinds[2][2] is not None
    assert set(report["attributes"]["conventions"]) == {"12 groups", "27 columns", "30 binaries"}
    assert [line["epoch"] for line in report["training"]["history"]] == [1, 2]
    assert report["training"]["best_epoch"] in (1, 2)
    assert len(list((run / "checkpoints").iterdir())) == 2
    assert not [path for path in run.rglob("*") if path.suffix in (".pkl", ".bin", ".pt", ".pth")]
    assert "__pycache__" not in str(list(run.rglob("*")))
    model = ReIDModel.from_pretrained(run / "model")
    with Image.open(next((small_market / "query").iterdir())) as picture:
        assert model.embed([picture]).shape == (1, 553)
        assert set(model.attributes([picture])[0]) == {group.name for group in MARKET_GROUPS}


def test_scoring_a_saved_model_repeats_the_runs_numbers(small_market: Path) -> None:
    annotate(small_market, range(1, 13))
    train(settings(small_market, "--run.dir=run"))
    score(
        [
            "--model=run/model",
            "--data.name=market-layout",
            f"--data.root={small_market}",
            "--data.cache-dir=cache",
            "--dir=again",
        ]
    )
    first, again = read_json(Path("run/report.json")), read_json(Path("again/report.json"))
    assert again["retrieval"] == first["retrieval"][:1]
    assert again["attributes"] == first["attributes"] is not None
    assert again["training"] is None


def test_scoring_needs_no_training_images(small_market: Path) -> None:
    annotate(small_market, range(1, 13))
    train(settings(small_market, "--run.dir=run"))
    for path in (small_market / "bounding_box_train").glob("*.jpg"):
        path.write_bytes(b"not an image")
    scored = ["--model=run/model", "--data.name=market-layout", f"--data.root={small_market}", "--dir=again"]
    score([*scored, "--data.cache-dir=another-cache"])
    first, again = read_json(Path("run/report.json")), read_json(Path("again/report.json"))
    assert again["attributes"] == first["attributes"] is not None


def test_a_quiet_run_prints_warnings_and_the_table_only(small_market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(settings(small_market, "--run.log-level=warning"))
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    table = next(number for number, line in enumerate(lines) if "rank-1" in line or "mAP" in line)
    assert table > 0
    assert all(line.startswith("warning: ") for line in lines[:table]), lines
    assert not [line for line in lines if line.startswith(("epoch", "decoded", "wrote", "report:"))]


def test_ctrl_c_while_scoring_says_how_to_score_again(
    small_market: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    run = settings(small_market, "--run.dir=run")
    with monkeypatch.context() as patch:
        patch.setattr("reid_accel.evaluation.final_report.write_report", interrupted)
        with pytest.raises(SystemExit) as info:
            train(run)
    assert info.value.code == 130
    said = capsys.readouterr().err
    assert "training is complete, the final evaluation is not" in said
    assert "--run.dir run --run.resume auto" in said
    assert not Path("run/report.json").exists()
    train([*run, "--run.resume=auto"])
    assert read_json(Path("run/report.json"))["training"]["steps"] > 0


def test_one_model_scored_on_several_sets_gives_one_table(
    small_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_market(tmp_path / "other", identities=8, images=4)
    train(settings(small_market, "--run.dir=run"))
    data = ["--data.name=market-layout", f"--data.root={small_market}", "--data.cache-dir=cache"]
    score(["--model=run/model", *data, "--also=market-layout:other", "--dir=both"])
    entries = read_json(Path("both/domains.json"))
    assert [entry["split"].partition(":")[0] for entry in entries] == ["market-layout", "market-layout-other"]
    alone = ["--model=run/model", "--data.name=market-layout", "--data.root=other", "--data.cache-dir=cache"]
    score([*alone, "--dir=alone"])
    expected = read_json(Path("alone/report.json"))["retrieval"][0]
    assert (
        entries[1]["mAP"]
        == expected["mAP"]
        == read_json(Path("both/market-layout-other/report.json"))["retrieval"][0]["mAP"]
    )
    assert entries[1]["num_queries"] != entries[0]["num_queries"]
    assert "market-layout-other:" in capsys.readouterr().out
    assert "use only one of them" in refused_by(score, capsys, [*alone, "--also=market-layout:other", "--features=f"])


def test_saved_features_score_like_their_model(small_market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(settings(small_market, "--run.dir=run"))
    data = ["--data.name=market-layout", f"--data.root={small_market}", "--data.cache-dir=cache"]
    views = ["--score.flip", "--score.crops=5"]
    score(["--model=run/model", *data, "--features=features", "--dir=first", "--score.rerank", *views])
    small_market.rename("gone")
    score(["--features=features", "--dir=again", "--score.rerank"])
    first, again = read_json(Path("first/report.json")), read_json(Path("again/report.json"))
    assert again["retrieval"] == first["retrieval"]
    assert all(entry["stamp"].endswith("flip=averaged crops=5") for entry in again["retrieval"])
    assert len(again["retrieval"]) == 2
    assert again["data"]["splits"] == {split: first["data"]["splits"][split] for split in ("query", "gallery")}

    about = read_json(Path("features/about.json"))
    older = {name: value for name, value in about.items() if name not in ("crops", "checksum")}
    write_json(Path("features/about.json"), older)
    score(["--features=features", "--dir=older"])
    assert read_json(Path("older/report.json"))["retrieval"][0]["stamp"].endswith("flip=averaged crops=1")

    next(Path("features").glob("gallery-*.safetensors")).unlink()
    for arguments, sentence in (
        (["--features=features"], "gallery-00000-of-00001.safetensors"),
        (["--features=gone"], "gone contains no saved features"),
        (["--features=nowhere"], "there is no features folder nowhere"),
    ):
        with pytest.raises(SystemExit):
            score(arguments)
        assert sentence in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_course_layout_ends_with_files_to_hand_in(tmp_path: Path) -> None:
    train(
        [
            *TINY,
            "--data.name=synthetic-course",
            "--data.cache-dir=cache",
            "--data.synthetic-identities=6",
            "--data.validation-share=0.3",
            "--train.epochs=1",
            "--train.batch-size=8",
            "--run.dir=run",
            "--score.multicolor-columns",
        ]
    )
    root = next(Path("cache").rglob("annotations_train.csv")).parent
    names = {split: sorted(path.name for path in (root / split).iterdir()) for split in ("test", "queries")}
    assert check_classification(Path("run/classification_test.csv"), names["test"]) == []
    assert check_rank_lists(Path("run/reid_test.txt"), names["test"], names["queries"]) == []
    report = read_json(Path("run/report.json"))
    assert [entry["protocol"] for entry in report["retrieval"]] == ["course", "course-strict", "market1501"]

    predict(
        [
            "--model=run/model",
            f"--queries={root / 'queries'}",
            f"--test={root / 'test'}",
            "--cache-dir=cache",
            "--dir=predicted",
            "--score.multicolor-columns",
        ]
    )
    for name in ("classification_test.csv", "reid_test.txt"):
        assert (Path("predicted") / name).read_bytes() == (Path("run") / name).read_bytes()


def test_images_of_any_kind_train(small_market: Path) -> None:
    paths = sorted((small_market / "bounding_box_train").iterdir())
    for path, mode, size in zip(paths, ("L", "RGBA", "P", "1"), ((5, 7), (200, 90), (64, 128), (5, 4)), strict=False):
        with Image.open(path) as image:
            changed = image.convert(mode).resize(size)
        changed.save(path)
    train(settings(small_market, "--run.dir=run"))
    assert read_json(Path("run/report.json"))["data"]["skipped_images"] == []


def test_bad_images_stop_or_are_listed(small_market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = sorted((small_market / "bounding_box_test").iterdir())[3]
    bad.write_bytes(bad.read_bytes()[:60])
    assert bad.name in refused(capsys, settings(small_market, "--run.dir=run"))
    train(settings(small_market, "--run.dir=run", "--data.on-bad-image=skip"))
    report = read_json(Path("run/report.json"))
    assert [image["name"] for image in report["data"]["skipped_images"]] == [bad.name]
    assert report["data"]["splits"]["gallery"]["images"] == 17


def test_people_with_one_image_each_train_without_a_validation_map(tmp_path: Path) -> None:
    root = make_market(tmp_path / "market", identities=20, images=4)
    for path in (root / "bounding_box_train").iterdir():
        if "000000" not in path.name:
            path.unlink()
    train(settings(root, "--run.dir=run"))
    report = read_json(Path("run/report.json"))
    assert report["training"]["history"][-1]["validation_mAP"] is None
    assert [entry["protocol"] for entry in report["retrieval"]] == ["market1501"]


def test_a_second_run_gets_a_folder_of_its_own(small_market: Path) -> None:
    for _ in range(2):
        train(settings(small_market, "--train.epochs=1"))
    assert sorted(path.name for path in Path("runs").iterdir()) == ["quickstart", "quickstart-2"]


def test_the_model_is_that_of_the_best_epoch(small_market: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.3, 0.9, 0.5])
    monkeypatch.setattr(train_script, "score_validation", lambda *arguments: {"validation_mAP": next(scores)})
    train(settings(small_market, "--run.dir=run", "--train.epochs=3", "--run.keep-checkpoints=3"))
    kept, *epochs = (
        load_file(path / "model.safetensors")["neck.0.0.weight"]
        for path in (Path("run/model"), *sorted(Path("run/checkpoints").iterdir()))
    )
    assert [torch.equal(kept, weight) for weight in epochs] == [False, True, False]
    assert read_json(Path("run/report.json"))["training"]["best_epoch"] == 2


def test_a_loss_that_is_not_finite_names_the_step(small_market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wild = ["--optim.name=sgd", "--optim.learning-rate=1e30", "--optim.warmup-epochs=0", "--run.log-every-steps=1"]
    said = refused(capsys, settings(small_market, "--run.dir=run", *wild))
    assert "the loss is not finite at step 2." in said
    assert not (Path("run") / "model").exists()


def test_a_stop_does_not_save_a_loss_that_is_not_finite(small_market: Path) -> None:
    calls: list[Batch] = []

    def stops_in_step_1(outputs: Outputs, batch: Batch) -> torch.Tensor:
        calls.append(batch)
        signal.raise_signal(signal.SIGTERM)
        return outputs.feature_BD.mean() * math.nan

    with pytest.raises(InputError, match="not finite at step 1"):
        train_model(parse(Config, settings(small_market, "--run.dir=run")), losses={"own": stops_in_step_1})
    assert len(calls) == 1, "the epoch has two steps"
    assert not Path("run/checkpoints").exists()


def test_a_checkpoint_from_before_survives_what_goes_wrong(small_market: Path) -> None:
    factors = iter((1.0, 1.0, math.nan, 1.0))

    def breaks_in_step_3(outputs: Outputs, batch: Batch) -> torch.Tensor:
        return outputs.feature_BD.mean() * next(factors)

    with pytest.raises(InputError, match=r"not finite at step 3\. Earlier checkpoints are intact"):
        train_model(parse(Config, settings(small_market, "--run.dir=run")), losses={"own": breaks_in_step_3})
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["step-00000002"]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--data.root=nowhere"], "there is no folder nowhere; set --data.root (or --data.also) to the folder"),
        (["--data.name=course"], "lacks train, queries, test"),
        (["--data.name=market1501", "--train.batch-size=200"], "larger than the training set of 20 images"),
        (["--train.batch-size=9", "--train.accumulation-steps=2"], "must be a multiple of 2"),
        (["--model.backbone=resnet5O"], "close names: resnet50"),
        (["--model.backbone=test_vit", "--model.last-stride=1"], "Set --model.last-stride 2"),
        (["--model.weights-file=weights.pth"], "there is no file weights.pth"),
        (["--run.resume=elsewhere"], "there is no checkpoint elsewhere"),
        (["--train.batch-norm=synchronized"], "synchronized needs GPUs"),
        (["--run.trackers=tensorbord"], "did you mean tensorboard?"),
        (["--run.push-to=user/name"], "HF_TOKEN"),
        (["--run.push-to=a name"], "user/name"),
        (["--config=nowhere.yaml"], "there is no recipe nowhere.yaml: give the path of a YAML file, or"),
    ],
)
def test_mistakes_get_a_sentence(
    small_market: Path, capsys: pytest.CaptureFixture[str], more: list[str], sentence: str
) -> None:
    assert sentence in refused(capsys, settings(small_market, "--run.dir=run", *more))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--model.backbone=resnt18"], "there is no model 'resnt18'; close names: resnet18"),
        (["--model.backbone=test_vit", "--model.stripes=2"], "model.stripes is for convolutional networks"),
        (["--model.backbone=nest_tiny"], "the backbone nest_tiny cannot be trained on images of 64 x 32 pixels"),
        (["--model.weights-file=none.safetensors"], "there is no file none.safetensors"),
        (["--model.backbone=resnet18", "--model.pretrained"], "could not be downloaded"),
    ],
)
def test_a_backbone_that_cannot_be_had_is_said_before_images_are_decoded(
    small_market: Path, capsys: pytest.CaptureFixture[str], more: list[str], sentence: str
) -> None:
    assert sentence in refused(capsys, settings(small_market, "--run.dir=run", *more))
    assert not Path("cache").exists()


@pytest.mark.parametrize("also", [False, True], ids=["main set", "additional set"])
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [("wrong name", "the file name 'somebody.png' has no person and camera"), ("empty", "query contains no images")],
)
def test_wrong_files_are_named_before_weights_are_loaded(
    small_market: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    sentence: str,
    also: bool,
) -> None:
    def download(settings: object) -> None:
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(train_script, "starting_weights", download)
    other = make_market(Path("other"))
    for path in ((other if also else small_market) / "query").iterdir():
        path.rename(path.with_name("somebody.png")) if fault == "wrong name" else path.unlink()
    said = refused(capsys, settings(small_market, *(["--data.also=market-layout:other"] if also else [])))
    assert sentence in said
    assert ("other" in said) == also


def test_one_identity_is_not_enough(small_market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (small_market / "bounding_box_train").iterdir():
        if not path.name.startswith("0001"):
            path.unlink()
    said = refused(capsys, settings(small_market, "--data.validation-share=0", "--train.batch-size=2"))
    assert "needs at least two identities" in said


def test_a_folder_with_a_run_in_it_is_not_overwritten(small_market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(settings(small_market, "--run.dir=run", "--train.epochs=1"))
    before = Path("run/report.json").read_bytes()
    (Path("run") / "notes.txt").write_text("mine")
    assert "run already holds a run" in refused(capsys, settings(small_market, "--run.dir=run"))
    assert Path("run/report.json").read_bytes() == before
    train(settings(small_market, "--run.dir=run", "--train.epochs=1", "--train.seed=5", "--run.overwrite"))
    assert Path("run/report.json").read_bytes() != before
    assert (Path("run") / "notes.txt").read_text() == "mine"


def test_resuming_with_other_settings_names_them(small_market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(settings(small_market, "--run.dir=run", "--train.epochs=1"))
    said = refused(
        capsys, settings(small_market, "--run.dir=run", "--train.epochs=1", "--run.resume=auto", "--train.seed=9")
    )
    assert "train.seed: 0 then, 9 now" in said


def test_resuming_anyway_follows_the_schedule_of_the_new_settings(small_market: Path) -> None:
    common = ("--run.dir=run", "--data.validation-share=0", "--optim.name=sgd", "--run.log-every-steps=1")
    train(settings(small_market, *common, "--train.epochs=1"))  # 24 images: 3 steps of 8
    changed = ("--train.batch-size=4", "--train.epochs=3", "--optim.learning-rate=0.01", "--optim.warmup-epochs=0")
    train(settings(small_market, *common, *changed, "--run.resume=auto", "--run.resume-anyway"))
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["epoch"] > 1]
    rates = [0.01 * (1 + math.cos(math.pi * step / 18)) / 2 for step in range(6, 18)]  # two of three epochs of 6
    assert [line["learning_rate"] for line in steps][:6] == pytest.approx(rates[:6])
    assert steps[-1]["learning_rate"] == pytest.approx(rates[-1])


def test_a_model_with_other_attributes_is_refused(small_market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotate(small_market, range(1, 13))
    train(settings(small_market, "--run.dir=run", "--train.epochs=1"))
    config = Path("run/model/config.json")
    config.write_text(config.read_text().replace('"teenager"', '"youth"'))
    with pytest.raises(SystemExit):
        score(
            ["--model=run/model", "--data.name=market-layout", f"--data.root={small_market}", "--data.cache-dir=cache"]
        )
    assert "attributes do not match the data's: the values differ of age" in " ".join(
        capsys.readouterr().err.replace("│", " ").split()
    )


def test_mended_test_images_are_reported_and_changed_training_images_refused(
    small_market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = settings(small_market, "--run.dir=run", "--train.epochs=1", "--run.resume=auto")
    train(common)
    query = small_market / "query" / "0007_c1s1_000000_00.png"
    query.rename(query.with_name("0007_c1s1_000009_00.png"))
    (small_market / "query" / "0008_c1s1_000000_00.png").write_bytes(b"broken")
    capsys.readouterr()
    train([*common, "--data.on-bad-image=skip"])
    said = " ".join("".join(capsys.readouterr()).split())
    assert "names or labels in query have changed since the checkpoint was written" in said
    assert "resuming from run/checkpoints/step-00000002" in said
    image = small_market / "bounding_box_train" / "0001_c1s1_000000_00.png"
    image.rename(image.with_name("0001_c1s1_000009_00.png"))
    assert "the training set's files have changed since" in refused(capsys, [*common, "--data.on-bad-image=skip"])


def test_faults_of_test_data_end_a_run_before_its_first_step(
    small_market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = small_market / "query" / "0007_c1s1_000000_00.png"
    query.rename(query.with_name("0000_c1s1_000000_00.png"))
    sentence = refused(capsys, settings(small_market, "--run.dir=run"))
    assert str(query.with_name("0000_c1s1_000000_00.png")) in sentence
    assert not Path("run").exists()


def test_a_data_set_with_damaged_files_in_a_folder_whose_name_is_not_utf8(
    small_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = small_market.rename(tmp_path / os.fsdecode(b"market\xfe"))
    for folder, person in (("bounding_box_train", "0001"), ("query", "0007"), ("bounding_box_test", "0007")):
        (root / folder / f"{person}_c1s1_900001_00.jpg").symlink_to("nowhere")
        Image.new("RGB", (16, 32), "white").save(root / folder / f"{person}_c1s1_900002_00.jpg")
        name = os.fsdecode(f"{person}_c1s1_900003_".encode() + b"\xff.png")
        Image.fromarray(np.arange(16 * 32, dtype=np.uint8).reshape(32, 16)).save(root / folder / name)
    with pytest.raises(SystemExit):
        train(settings(root))
    assert r"market\xfe/bounding_box_train/0001_c1s1_900001_00.jpg: No such file" in capsys.readouterr().err
    arguments = settings(root, "--data.on-bad-image=skip", "--run.dir=out", "--run.trackers=tensorboard")
    train(arguments)
    skipped = [image["name"] for image in read_json(Path("out/report.json"))["data"]["skipped_images"]]
    assert len(skipped) == 9
    assert skipped[:3] == ["0001_c1s1_900001_00.jpg", "0001_c1s1_900002_00.jpg", r"0001_c1s1_900003_\xff.png"]
    assert r"0001_c1s1_900003_\xff.png" in Path("out/report.html").read_text(encoding="utf-8")
    score(["--model=out/model", "--data.name=market-layout", f"--data.root={root}", "--data.cache-dir=cache",
           "--data.on-bad-image=skip", "--dir=scores", "--features=features"])  # fmt: skip
    assert read_json(Path("scores/report.json"))["retrieval"][0]["num_queries"] == 6


def test_faults_of_a_further_test_set_are_found_before_the_first_is_scored(
    small_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_market(tmp_path / "other")
    query = other / "query" / "0007_c1s1_000000_00.png"
    query.rename(query.with_name("-1_c1s1_000000_00.png"))
    monkeypatch.setattr(score_script, "score_model", lambda *_: pytest.fail("the first set was scored"))
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / name).touch()
    data = ["--data.name=market-layout", f"--data.root={small_market}"]
    sentence = refused_by(score, capsys, ["--model=model", *data, f"--also=market-layout:{other}"])
    assert str(query.with_name("-1_c1s1_000000_00.png")) in sentence
