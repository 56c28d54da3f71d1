"""Exported files score as their model does; others' files when the user says how images are prepared."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.launching import PACKAGE, launch, read_json
from helpers.made_sets import make_market, make_tracked_market

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from reid_accel.attributes.annotations import write_market_mat  # noqa: E402
from reid_accel.attributes.vocabulary import MARKET_GROUPS  # noqa: E402
from reid_accel.config.schema import ModelConfig  # noqa: E402
from reid_accel.errors import InputError  # noqa: E402
from reid_accel.files import sha256  # noqa: E402
from reid_accel.models.architecture import Architecture  # noqa: E402
from reid_accel.models.reid import ReIDModel  # noqa: E402
from reid_accel.predict import main as predict  # noqa: E402
from reid_accel.retrieval.exported import load_exported  # noqa: E402
from reid_accel.retrieval.feature_files import read_features  # noqa: E402
from reid_accel.score import main as score  # noqa: E402


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its exports and an annotated set."""
    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    settings = ModelConfig(
        backbone="test_resnet", pretrained=False, height_px=64, width_px=32, neck="bn", metric="cosine"
    )
    model = ReIDModel(Architecture(model=settings, groups=MARKET_GROUPS, num_identities=2)).eval()
    model.save_pretrained(folder / "model")
    model.export(folder / "export", to=("onnx", "openvino", "torch-export"), with_attributes=True)
    model.export(folder / "inside", to=("onnx",), flavor="inside", pixel_range=255, bgr=True)
    root = make_market(folder / "set")
    people = {pid: tuple(pid % 2 for _ in MARKET_GROUPS) for pid in range(1, 13)}
    write_market_mat(root / "market_attribute.mat", people, people)
    return folder


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def scored(place: Path, model: Path, folder: str, *more: str) -> dict:  # type: ignore[type-arg]
    data = ["--data.name=market-layout", f"--data.root={place / 'set'}", "--data.cache-dir=cache"]
    score([f"--model={model}", *data, f"--dir={folder}", *more])
    return read_json(Path(folder) / "report.json")


def refused(capsys: pytest.CaptureFixture[str], place: Path, model: Path, *more: str) -> str:
    with pytest.raises(SystemExit) as left:
        scored(place, model, "refused", *more)
    assert left.value.code == 2
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize("name", ["export/model.onnx", "export/model.xml", "export/model.pt2", "inside/model.onnx"])
def test_a_file_scores_as_its_model(place: Path, name: str) -> None:
    own = scored(place, place / "model", "own", "--score.flip")
    file = scored(place, place / name, "file", "--score.flip")
    (first,), (second,) = own["retrieval"], file["retrieval"]
    assert second["mAP"] == pytest.approx(first["mAP"], abs=1e-3)
    assert second["cmc"] == first["cmc"]
    assert second["stamp"] == first["stamp"]
    assert 0 < first["mAP"] < 1
    if name.startswith("export"):
        for convention, scores in own["attributes"]["conventions"].items():
            found = file["attributes"]["conventions"][convention]
            assert found["accuracy"] == pytest.approx(scores["accuracy"], abs=1e-6)
    assert file["model"]["exported_file"] == Path(name).name
    if not name.endswith(".xml"):
        assert file["model"]["exported_sha256"] == sha256(place / name)
    assert file["model"]["exported_sha256"] in Path("file/report.html").read_text()


def test_rank_lists_of_a_file_are_those_of_its_model(place: Path) -> None:
    images = [f"--queries={place / 'set/query'}", f"--test={place / 'set/bounding_box_test'}", "--cache-dir=cache"]
    predict([f"--model={place / 'model'}", *images, "--dir=own"])
    predict([f"--model={place / 'export/model.onnx'}", *images, "--dir=file", "--save-features"])
    for name in ("reid_test.txt", "classification_test.csv"):
        assert Path("file", name).read_text() == Path("own", name).read_text()
    assert read_features(Path("file/features"), "test").fingerprint.startswith("file ")


def test_features_of_a_file_are_saved_and_scored_again(place: Path) -> None:
    first = scored(place, place / "export/model.onnx", "file", "--features=features")
    score(["--features=features", "--dir=again"])
    assert read_json(Path("again/report.json"))["retrieval"] == first["retrieval"]


def test_tracklets_of_a_file_have_no_quality(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tracked_market(tmp_path / "set")
    assert "use mean or medoid" in refused(capsys, tmp_path, place / "export/model.onnx", "--score.tracklets=quality")
    (entry,) = scored(tmp_path, place / "export/model.onnx", "mean", "--score.tracklets=mean")["retrieval"]
    assert entry["protocol"] == "market1501, tracklets (mean)"


def test_two_processes_score_a_file_to_the_same_bits(place: Path, tmp_path: Path) -> None:
    alone = scored(place, place / "export/model.onnx", "alone")
    words = [f"--model={place / 'export/model.onnx'}", "--data.name=market-layout", f"--data.root={place / 'set'}"]
    launch(PACKAGE / "score.py", *words, "--data.cache-dir=cache", "--dir=two", folder=tmp_path, processes=2)
    two = read_json(Path("two/report.json"))
    assert two["hardware"]["processes"] == 2
    assert two["retrieval"] == alone["retrieval"]


def foreign(place: Path, path: Path, *, flavor: str = "export", batch: int | None = None, outputs: int = 1) -> Path:
    """A file without this package's description."""
    model = onnx.load(str(place / flavor / "model.onnx"))
    del model.metadata_props[:]
    del model.graph.output[outputs:]
    if batch is not None:
        for value in (model.graph.input[0], *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("batch", [None, 1, 5])
def test_a_foreign_file_scores_with_its_preprocessing(place: Path, tmp_path: Path, batch: int | None) -> None:
    own = scored(place, place / "model", "own")
    file = foreign(place, tmp_path / "other.onnx", batch=batch)
    right = scored(place, file, "right", "--preprocess=imagenet")
    wrong = scored(place, file, "wrong", "--preprocess=half")
    assert right["retrieval"][0]["mAP"] == pytest.approx(own["retrieval"][0]["mAP"], abs=1e-3)
    assert wrong["retrieval"][0]["mAP"] != right["retrieval"][0]["mAP"]
    assert right["model"]["backbone"] == "other.onnx"


def test_preprocessing_is_asked_for_and_not_ignored(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = foreign(place, tmp_path / "other.onnx")
    assert "give --preprocess imagenet" in refused(capsys, place, file)
    assert "leave --preprocess out" in refused(capsys, place, place / "export/model.onnx", "--preprocess=half")
    assert "but" in refused(capsys, place, place / "model", "--preprocess=half")
    assert "there is no file" in refused(capsys, place, tmp_path / "absent.onnx")


def test_a_file_that_is_no_network_for_images_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    several = foreign(place, tmp_path / "several.onnx", outputs=13)
    assert "13 outputs" in refused(capsys, place, several, "--preprocess=imagenet")
    (tmp_path / "text.onnx").write_text("no graph")
    assert "cannot be loaded" in refused(capsys, place, tmp_path / "text.onnx", "--preprocess=imagenet")
    model = onnx.load(str(place / "export/model.onnx"))
    del model.metadata_props[:]
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    del model.graph.output[1:]
    (tmp_path / "symbolic.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="of a fixed size"):
        load_exported(tmp_path / "symbolic.onnx", "imagenet")


def test_a_fixed_batch_is_filled_and_cut(place: Path, tmp_path: Path) -> None:
    free = load_exported(foreign(place, tmp_path / "free.onnx"), "inside")
    fixed = load_exported(foreign(place, tmp_path / "fixed.onnx", batch=4), "inside")
    assert (free.batch_size, fixed.batch_size) == (None, 4)
    images = torch.rand(7, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    assert np.allclose(free.outputs(images)[0], fixed.outputs(images)[0], atol=1e-5)
