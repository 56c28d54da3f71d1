"""predict.py: what it takes, what it refuses before anything is computed, and what it writes."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.time_limit import within
from PIL import Image

import reid_accel.predict as predict_script
from reid_accel.attributes.vocabulary import MARKET_GROUPS, AttributeGroup
from reid_accel.config.schema import ModelConfig
from reid_accel.models.architecture import Architecture
from reid_accel.models.reid import ReIDModel
from reid_accel.retrieval.feature_files import read_features


@pytest.fixture
def images(small_market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images with a folder in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    nested = tmp_path / "images" / "of" / "somewhere"
    nested.mkdir(parents=True)
    for number, path in enumerate(sorted((small_market / "query").iterdir())):
        shutil.copy(path, (nested if number % 2 else tmp_path / "images") / path.name)
    return tmp_path / "images"


def save_model(folder: Path, groups: tuple[AttributeGroup, ...] = MARKET_GROUPS) -> str:
    torch.manual_seed(0)
    settings = ModelConfig(backbone="test_resnet", pretrained=False, height_px=64, width_px=32)
    ReIDModel(Architecture(model=settings, groups=groups, num_identities=2)).save_pretrained(folder)
    return f"--model={folder}"


def predict(model: str, queries: Path, test: Path, *more: str) -> None:
    predict_script.main([model, f"--queries={queries}", f"--test={test}", "--cache-dir=cache", *more])


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as left:
        predict(*arguments)  # type: ignore[arg-type]
    assert left.value.code == 2
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_single_image_is_searched_in_nested_folders(images: Path, tmp_path: Path) -> None:
    paths = sorted(path for path in images.rglob("*") if path.is_file())
    query = paths[0]
    predict(save_model(tmp_path / "model"), query, images)
    (line,) = Path("runs/predict/reid_test.txt").read_text().splitlines()
    name, _, ranked = line.partition(": ")
    assert name == query.name
    assert sorted(ranked.split(", ")) == sorted(path.name for path in paths)
    assert ranked.split(", ")[0] == query.name, "it is most like itself"
    assert len(Path("runs/predict/classification_test.csv").read_text().splitlines()) == 1 + len(paths)


def test_earlier_predictions_are_kept(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_model(tmp_path / "model")
    for _ in range(2):
        predict(model, images, images)
    assert (Path("runs/predict-2") / "reid_test.txt").is_file()
    predict(model, images, images, "--dir=mine")
    assert "mine already holds results: choose another --dir" in refused(capsys, model, images, images, "--dir=mine")


def test_a_model_without_attributes_says_what_it_does_not_write(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(save_model(tmp_path / "model", groups=()), images, images, "--dir=none")
    note = "trained without attributes: classification_test.csv and junk_scores.tsv will not be written"
    assert note in " ".join(capsys.readouterr().out.split())
    assert [path.name for path in Path("none").iterdir()] == ["reid_test.txt"]
    predict(save_model(tmp_path / "other", groups=MARKET_GROUPS[:2]), images, images, "--dir=other-groups")
    assert "other attributes than Market-1501's: classification_test.csv will not" in capsys.readouterr().out
    assert not Path("other-groups/classification_test.csv").exists()


def test_features_and_distances_are_written_on_request(images: Path, tmp_path: Path) -> None:
    model = save_model(tmp_path / "model")
    predict(model, images, images, "--save-features", "--dir=with")
    queries, test = (read_features(Path("with/features"), split) for split in ("queries", "test"))
    distance_QG = torch.cdist(queries.embedding_SD, test.embedding_SD).numpy()
    lines = [line.split("\t") for line in Path("with/distances.tsv").read_text().splitlines()]
    assert lines[0] == ["query", "id", "distance"]
    assert len(lines) == 1 + distance_QG.size
    found = {(query, name): float(distance) for query, name, distance in lines[1:]}
    expected = {(q, g): distance_QG[i, j] for i, q in enumerate(queries.name_N) for j, g in enumerate(test.name_N)}
    assert set(found) == set(expected)
    assert np.allclose([found[key] for key in expected], list(expected.values()), atol=1e-3)


def test_all_inputs_are_checked_before_anything_is_embedded(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_model(tmp_path / "model")
    monkeypatch.setattr(predict_script, "embed_dataset", lambda *_: pytest.fail("images were embedded"))
    assert "there is no folder or image absent" in refused(capsys, model, images, Path("absent"))
    Path("text.txt").write_text("words")
    assert "text.txt is not an image" in refused(capsys, model, Path("text.txt"), images)
    Path("empty").mkdir()
    assert "empty contains no images" in refused(capsys, model, images, Path("empty"))
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "1.jpg").write_bytes(b"no image")
    assert "cannot read the image" in refused(capsys, model, images, bad)
    shutil.copytree(images, tmp_path / "twice" / "a")
    shutil.copytree(images, tmp_path / "twice" / "b")
    assert "have the same file name: rename one of them" in refused(capsys, model, images, tmp_path / "twice")


def test_names_that_the_files_cannot_contain_are_refused_before_anything_is_embedded(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(path for path in images.iterdir() if path.is_file())
    path.rename(path.with_name("a,b.png"))
    monkeypatch.setattr(predict_script, "load_embedder", None)
    said = refused(capsys, save_model(tmp_path / "model"), images, images)
    assert "the file name 'a,b.png' contains a comma, a colon or a quotation mark" in said


def test_files_that_are_left_out_and_names_like_formulas_are_named(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(path for path in images.iterdir() if path.is_file())
    path.rename(path.with_name("=1+1.png"))
    (images / "of" / "x.avif").touch()
    predict(save_model(tmp_path / "model"), images, images)
    said = " ".join("".join(capsys.readouterr()).split())
    assert f"files in {images} are left out: 1 .avif (of/x.avif)" in said
    assert "1 image names in classification_test.csv look like formulas (=1+1.png)" in said
    assert "1 image names in junk_scores.tsv look like formulas" in said
    assert any(
        line.startswith("=1+1.png,") for line in Path("runs/predict/classification_test.csv").read_text().split()
    )


def test_whatever_cannot_be_read_is_refused_or_skipped(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, good = save_model(tmp_path / "model"), sorted(path.name for path in images.rglob("*.png"))
    folder = images.rename(tmp_path / os.fsdecode(b"images\xfe"))
    (folder / "dangling.jpg").symlink_to("nowhere")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "round").symlink_to(".")
    (folder / "empty.jpg").touch()
    Image.new("RGB", (16, 32), "white").save(folder / "white.png")
    Image.new("RGB", (16, 32)).save(folder / "postscript.jpg", format="EPS")
    shutil.copy(next(folder.glob("*.png")), folder / os.fsdecode(b"\xff.png"))
    os.mkfifo(folder / "fifo.jpg")
    with within(120):
        assert r"cannot read the image" in refused(capsys, model, folder, folder)
        predict(model, folder, folder, "--on-bad-image=skip", "--dir=out")
    said = capsys.readouterr().out
    for name in ("dangling.jpg", "circle.jpg", "empty.jpg", "white.png", "postscript.jpg", r"\xff.png", "fifo.jpg"):
        assert said.count(rf"images\xfe/{name}: ") == 2, f"{name} among queries and test images"
    ranked = [line.split(": ") for line in Path("out/reid_test.txt").read_text().splitlines()]
    assert sorted(query for query, _ in ranked) == good
    assert {name for _, names in ranked for name in names.split(", ")} == set(good)
