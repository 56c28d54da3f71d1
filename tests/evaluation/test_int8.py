"""Quantized exports: kept with their scores, or refused."""

import json
import logging
import sys
from pathlib import Path

import pytest
from helpers.exports import saved
from helpers.launching import TINY, read_json
from helpers.made_sets import make_market

onnx = pytest.importorskip("onnx", reason="needs the extra `export`")
pytest.importorskip("onnxruntime", reason="needs the extra `export`")

import numpy as np  # noqa: E402

from reid_accel.cli import main  # noqa: E402
from reid_accel.config.export import ExportConfig  # noqa: E402
from reid_accel.errors import InputError  # noqa: E402
from reid_accel.evaluation import int8  # noqa: E402
from reid_accel.evaluation.int8 import export_with_int8  # noqa: E402
from reid_accel.export.quantize import METHODS, quantize  # noqa: E402
from reid_accel.export.write import export  # noqa: E402
from reid_accel.models.reid import ReIDModel  # noqa: E402
from reid_accel.retrieval.exported import load_exported  # noqa: E402
from reid_accel.score import main as score  # noqa: E402
from reid_accel.train import main as train  # noqa: E402


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run and its set."""
    folder = tmp_path_factory.mktemp("int8")
    data = [f"--data.root={make_market(folder / 'set')}", f"--data.cache-dir={folder / 'cache'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        patch.chdir(folder)
        plain = ["--data.name=market-layout", "--train.batch-size=8", "--train.epochs=1", "--model.no-attributes"]
        train([*TINY, *plain, *data, "--data.validation-share=0", f"--run.dir={folder / 'run'}"])
    return folder


def test_an_int8_file_is_kept_with_its_scores(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    out = tmp_path / "export"
    lines = export_with_int8(str(run / "run/model"), ExportConfig(int8=True, max_drop=50, out=str(out)))
    assert f"{out / 'model-int8.onnx'}: quantized on 24 training images" in lines[-1]
    assert "int8, per channel: mAP" in lines[-2]
    info = load_exported(out / "model-int8.onnx").architecture
    assert info.precision == "int8"
    weights = [tensor for tensor in onnx.load(str(out / "model-int8.onnx")).graph.initializer if tensor.data_type == 3]
    assert len(weights) > 5
    entry = json.loads((out / "export.json").read_text())["exports"][-1]
    assert (entry["file"], entry["method"]) == ("model-int8.onnx", "per channel")
    for name, kept in (("model.onnx", info.mean_ap_float32), ("model-int8.onnx", info.mean_ap)):
        data = ["--data.name=market-layout", f"--data.root={run / 'set'}", f"--data.cache-dir={run / 'cache'}"]
        score([f"--model={out / name}", *data, f"--dir={tmp_path / name}"])
        report = read_json(tmp_path / name / "report.json")
        assert report["retrieval"][0]["mAP"] == kept
        assert report["model"]["exported_precision"] == info.precision or name == "model.onnx"
    assert entry["drop_points"] == pytest.approx(100 * (info.mean_ap_float32 - info.mean_ap))  # type: ignore[operator]


def test_a_file_that_loses_too_much_is_refused_and_the_others_stay(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(source, target, batches, method, info):  # type: ignore[no-untyped-def]
        return quantize(source, target, [1000 * batch for batch in batches], method, info)

    monkeypatch.setattr(int8, "quantize", broken)
    config = ExportConfig(int8=True, max_drop=0.001, out=str(tmp_path / "export"))
    with pytest.raises(InputError, match=r"the int8 file is not written, since mAP falls by 0\.001 points") as refused:
        export_with_int8(str(run / "run/model"), config)
    assert str(refused.value).count("int8, per channel") == len(METHODS), "every method was tried"
    assert (tmp_path / "export/model.onnx").is_file()
    assert not (tmp_path / "export/model-int8.onnx").exists()


def test_int8_needs_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ReIDModel.from_pretrained(run / "run/model")
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "model"), "--int8"])
    assert "--int8 needs the images of the run" in capsys.readouterr().err
    assert not (tmp_path / "export").exists()
    with pytest.raises(InputError, match="use `reid-accel export RUN/model --int8`"):
        model.export(tmp_path / "export", int8=True)
    with pytest.raises(InputError, match="--int8 must be used with --to onnx"):
        ExportConfig(int8=True, to=("openvino",))
    with pytest.raises(InputError, match="--max-drop must be positive"):
        ExportConfig(max_drop=float("nan"))


def test_no_calibration_images_are_a_sentence(run: Path, tmp_path: Path) -> None:
    model = ReIDModel.from_pretrained(run / "run/model")
    source = model.export(tmp_path / "export") / "model.onnx"
    info = load_exported(source).architecture
    with pytest.raises(InputError, match="needs calibration images"):
        quantize(source, tmp_path / "int8.onnx", [], METHODS[0], info)
    images = [np.random.default_rng(0).random((4, 3, 64, 32), np.float32)]
    for method in METHODS:
        assert quantize(source, tmp_path / "int8.onnx", images, method, info).precision == "int8"
        assert (tmp_path / "int8.onnx").stat().st_size < source.stat().st_size


def test_warnings_of_the_quantizer_are_not_printed_and_nothing_of_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    model = saved(tmp_path, backbone="osnet_x0_25", neck="bn")  # it warns of the batch norm's weight
    source = export(str(model), ExportConfig()).folder / "model.onnx"
    images = [np.zeros((1, 3, 64, 32), np.float32)]
    monkeypatch.setattr(logging.root, "handlers", [])  # as in a command; pytest has its own
    path, level = list(sys.path), logging.root.level
    quantize(source, tmp_path / "int8.onnx", images, METHODS[0], load_exported(source).architecture)
    assert "WARNING" not in capfd.readouterr().err
    assert (logging.root.handlers, sys.path, logging.root.level) == ([], path, level)
