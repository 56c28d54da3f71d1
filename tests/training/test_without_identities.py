"""Runs on images with attributes but without identities, from training to predictions."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.launching import PACKAGE, TINY, launch, read_json
from helpers.made_attribute_sets import (
    PA100K_ATTRIBUTES,
    Save,
    made_labels,
    make_duke,
    make_pa100k,
    make_peta,
    make_rap,
    save_mat5,
    save_mat73,
)
from safetensors.torch import load_file

import reid_accel.train as train_script
from reid_accel.models.reid import ReIDModel
from reid_accel.predict import main as predict
from reid_accel.score import main as score
from reid_accel.train import main as train

FIVE = ("mA", "instance_accuracy", "instance_precision", "instance_recall", "instance_f1")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def settings(name: str, root: Path, *more: str) -> list[str]:
    data = [f"--data.name={name}", f"--data.root={root}", "--data.cache-dir=cache"]
    return [*TINY, *data, "--train.batch-size=8", "--train.epochs=1", "--run.dir=run", *more]


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        train(arguments)
    assert left.value.code == 2
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


def literature(predicted: np.ndarray, labels: np.ndarray) -> list[float]:
    """The five scores, one attribute and one image at a time; attributes with one value only are left out of mA."""
    rates, images = [], []
    for said, true in zip(predicted.T, labels.T, strict=True):
        yes, no = (
            [s for s, t in zip(said, true, strict=True) if t],
            [s for s, t in zip(said, true, strict=True) if not t],
        )
        if yes and no:
            rates.append((sum(yes) / len(yes) + 1 - sum(no) / len(no)) / 2)
    for said, true in zip(predicted, labels, strict=True):
        found, claimed, wanted = ({i for i, v in enumerate(row) if v} for row in (said * true, said, true))
        union = len(claimed | wanted)
        images.append([len(found) / (size or 1) for size in (union, len(claimed), len(wanted))])
    accuracy, precision, recall = np.mean(images, 0)
    return [float(np.mean(rates)), accuracy, precision, recall, 2 * precision * recall / (precision + recall)]


def test_a_run_scores_as_the_literature_and_everything_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_pa100k(tmp_path / "pa")
    train(settings("pa100k", tmp_path / "pa", "--loss.identity=0", "--train.epochs=2"))
    said = " ".join(capsys.readouterr().out.split())
    assert "24 training images without identities, 8 for validation" in said
    assert "val mA" in said
    report = read_json(Path("run/report.json"))
    assert report["retrieval"] == []
    assert report["junk"] is None
    entry = report["attributes"]
    assert (entry["headline"], entry["protocol"], entry["split"]) == ("26 binaries", "PAR, 26 binaries", "test")
    rows = list(csv.reader(Path("run/attributes.csv").read_text().splitlines()))
    assert rows[0] == ["id", *PA100K_ATTRIBUTES]
    assert [row[0] for row in rows[1:]] == [f"{number:06d}.jpg" for number in range(33, 41)]
    predicted = np.array([[cell == "yes" for cell in row[1:]] for row in rows[1:]]).astype(int)
    expected = literature(predicted, made_labels(40, 26)[32:].astype(int))
    assert [entry["conventions"]["26 binaries"][name] for name in FIVE] == pytest.approx(expected)
    assert f"mA {100 * expected[0]:.1f} %, accuracy {100 * expected[1]:.1f} %" in said
    assert "(PAR, 26 binaries; test)" in said
    page, card = Path("run/report.html").read_text(), Path("run/model/README.md").read_text()
    for text in (page, card):
        assert "PAR, 26 binaries" in text
        assert f"{100 * expected[0]:.2f} %" in text
        assert "mAP" not in text
    assert "Best epoch by validation mA" in page
    assert "A model of pedestrian attributes: it predicts 26 attributes" in card
    assert "name: F1 (PAR, 26 binaries)\n" in card

    score(["--model=run/model", "--data.name=pa100k", "--data.root=pa", "--data.cache-dir=cache", "--dir=again"])
    again = read_json(Path("again/report.json"))
    assert again["attributes"] == entry
    capsys.readouterr()
    with pytest.raises(SystemExit):
        score(["--model=run/model", "--data.name=pa100k", "--data.root=pa", "--data.cache-dir=cache", "--features=f"])
    assert "pa100k has neither" in " ".join(capsys.readouterr().err.split())

    images = tmp_path / "pa" / "data"
    predict(["--model=run/model", f"--queries={images / '000033.jpg'}", f"--test={images}", "--cache-dir=cache"])
    written = list(csv.reader(Path("runs/predict/attributes.csv").read_text().splitlines()))
    assert len(written) == 41
    assert [row for row in written[1:] if row[0] >= "000033.jpg"] == rows[1:]
    named = ReIDModel.from_pretrained("run/model").attributes(images / "000033.jpg")[0]
    assert list(named.values()) == rows[1][1:]

    train(settings("pa100k", tmp_path / "pa", "--loss.identity=0", "--train.epochs=2", "--run.resume=auto"))
    assert read_json(Path("run/report.json"))["attributes"] == entry, "a finished run is scored again"


FORMS = {
    "peta": lambda root: make_peta(root, save=save_mat73),
    "rap": make_rap,
    "rap, version 2": lambda root: make_rap(root, 2, save=save_mat73),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_trains_and_scores(tmp_path: Path, form: str) -> None:
    name, root = form.partition(",")[0], FORMS[form](tmp_path / "set")
    train(settings(name, root, "--data.partition=3", "--data.validation-share=0.2"))
    report = read_json(Path("run/report.json"))
    number = {"peta": 35, "rap": 51, "rap, version 2": 54}[form]
    assert report["attributes"]["protocol"].startswith(f"PAR, {number} binaries, ")
    assert report["attributes"]["protocol"].endswith("partition 3")
    assert 0 <= report["training"]["history"][0]["validation_mA"] <= 1
    data = [f"--data.name={name}", f"--data.root={root}", "--data.cache-dir=cache", "--data.partition=3"]
    score(["--model=run/model", *data, "--dir=again"])
    assert read_json(Path("again/report.json"))["attributes"] == report["attributes"]


def test_several_sets_are_compared_in_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        make_pa100k(tmp_path / name)
    train(settings("pa100k", tmp_path / "one"))
    capsys.readouterr()
    data = ["--data.name=pa100k", f"--data.root={tmp_path / 'one'}", "--data.cache-dir=cache"]
    score(["--model=run/model", *data, f"--also=pa100k:{tmp_path / 'two'}", "--dir=both"])
    said = " ".join(capsys.readouterr().out.split())
    for label in ("pa100k: mA", "pa100k-two: mA"):
        assert label in said


@pytest.mark.parametrize("save", [save_mat5, save_mat73], ids=["version 5", "version 7.3"])
def test_duke_trains_people_and_its_own_attributes(tmp_path: Path, save: Save) -> None:
    train(settings("duke-attributes", make_duke(tmp_path / "duke", save=save), "--data.validation-share=0.3"))
    report = read_json(Path("run/report.json"))
    assert list(report["attributes"]["conventions"]) == ["10 groups", "23 binaries"]
    assert "headline" not in report["attributes"]
    assert report["retrieval"][0]["protocol"] == "market1501"
    assert "upper_color" in report["model"]["attributes"]


def test_the_model_is_that_of_the_epoch_with_the_best_validation_mA(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter([0.6, 0.8, 0.7])
    monkeypatch.setattr(train_script, "score_validation", lambda *_: {"validation_mA": next(numbers)})
    make_pa100k(tmp_path / "pa")
    train(
        settings(
            "pa100k", tmp_path / "pa", "--train.epochs=3", "--train.validate-every-epochs=1", "--run.keep-checkpoints=3"
        )
    )
    kept, *epochs = (
        load_file(path / "model.safetensors")["neck.0.0.weight"]
        for path in (Path("run/model"), *sorted(Path("run/checkpoints").iterdir()))
    )
    assert [torch.equal(kept, weight) for weight in epochs] == [False, True, False]


def test_what_needs_identities_is_refused_with_the_settings_to_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_pa100k(tmp_path / "pa")
    pairs = ["--loss.triplet=1", "--train.images-per-identity=4"]
    said = refused(capsys, settings("pa100k", tmp_path / "pa", *pairs))
    assert "no identities, so that only attributes can be trained" in said
    assert "set --loss.triplet 0 --train.images-per-identity 0" in said
    assert "nothing would be trained" in refused(capsys, settings("pa100k", tmp_path / "pa", "--model.no-attributes"))
    make_duke(tmp_path / "duke")
    added = refused(capsys, settings("duke-attributes", tmp_path / "duke", f"--data.also=pa100k:{tmp_path / 'pa'}"))
    assert "the images of pa100k" in added
    assert "have no identities" in added
    assert not Path("run").exists()


def test_people_of_an_added_set_lend_their_attributes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_peta(tmp_path / "peta")
    make_duke(tmp_path / "duke")
    train(settings("peta", tmp_path / "peta", f"--data.also=duke-attributes:{tmp_path / 'duke'}"))
    said = " ".join(capsys.readouterr().out.split())
    assert "only in duke-attributes:duke: gender, top, boots, hat" in said
    architecture = read_json(Path("run/model/config.json"))["architecture"]
    assert len(architecture["groups"]) == 45
    assert architecture["num_identities"] == 0
    report = read_json(Path("run/report.json"))
    assert len(report["attributes"]["per_group"]) == 35
    scored = [
        "--model=run/model",
        "--data.name=duke-attributes",
        f"--data.root={tmp_path / 'duke'}",
        "--dir=duke-scores",
    ]
    score([*scored, "--data.cache-dir=cache"])
    other = read_json(Path("duke-scores/report.json"))
    assert len(other["attributes"]["per_group"]) == 10
    assert any("attributes left out of the scores: attribute000" in warning for warning in other["data"]["warnings"])


@pytest.mark.launch
def test_two_processes_train_without_identities(tmp_path: Path) -> None:
    make_pa100k(tmp_path / "pa")
    arguments = settings("pa100k", tmp_path / "pa", "--loss.identity=0")
    launch(PACKAGE / "train.py", *arguments, folder=tmp_path, processes=2)
    report = read_json(tmp_path / "run/report.json")
    assert report["hardware"]["processes"] == 2
    assert report["attributes"]["protocol"] == "PAR, 26 binaries"
