"""The benchmark of exports measures every engine on the same images; speed is not asserted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.launching import read_json

pytest.importorskip("onnxscript", reason="needs the extra `export`")
pytest.importorskip("onnxruntime", reason="needs the extra `export`")
pytest.importorskip("openvino", reason="needs the extra `export`")

from reid_accel.bench import main
from reid_accel.benchmarks import export as benchmark
from reid_accel.benchmarks.export import lowest_cosine, measure
from reid_accel.config.schema import ModelConfig
from reid_accel.export.metadata import GraphInfo
from reid_accel.export.quantize import METHODS, quantize
from reid_accel.export.runtimes import open_runtime
from reid_accel.models.architecture import Architecture
from reid_accel.models.reid import ReIDModel


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "SLICE_SECONDS", 0.01)


def test_every_engine_is_measured_and_returns_the_models_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ModelConfig(backbone="test_resnet", pretrained=False, height_px=64, width_px=32)
    model = ReIDModel(Architecture(model=settings, num_identities=2)).eval()
    model.save_pretrained("model")
    model.export("export", to=("onnx", "openvino"))
    info = open_runtime(Path("export/model.onnx")).info
    assert isinstance(info, GraphInfo)
    images = [np.random.default_rng(0).standard_normal((4, 3, 64, 32)).astype(np.float32)]
    quantize(Path("export/model.onnx"), Path("export/model-int8.onnx"), images, METHODS[0], info)
    flags = ["--turns=2", "--batch-sizes", "1", "3", "--no-compiled", "--threads=1", "--json=speed.json"]
    main(["export", "--model=model", "--export=export", *flags])
    rows = read_json(Path("speed.json"))
    engines = ["PyTorch eager", "ONNX Runtime float32", "OpenVINO float32", "ONNX Runtime int8", "OpenVINO int8"]
    assert [(row["batch_size"], row["engine"]) for row in rows] == [(size, name) for size in (1, 3) for name in engines]
    for row in rows:
        assert 0 < row["median_ms"] <= row["p95_ms"]
        assert row["images_per_second"] == pytest.approx(1000 * row["batch_size"] / row["median_ms"])
        assert row["lowest_cosine"] > (0.9 if "int8" in row["engine"] else 0.9999)
        assert row["num_batches"] >= 2
    printed = capsys.readouterr().out
    assert all(name in printed for name in engines)


def test_engines_take_turns() -> None:
    calls: list[str] = []

    def engine(name: str):  # type: ignore[no-untyped-def]
        def features(images):  # type: ignore[no-untyped-def]
            calls.append(name)
            torch.zeros(1).item()
            return np.eye(2, dtype=np.float32)

        return features

    rows = measure({"a": engine("a"), "b": engine("b")}, torch.zeros(2, 3, 4, 4), turns=2)
    order = [name for name, before in zip(calls, ["", *calls[:-1]], strict=True) if name != before]
    assert order == ["a", "b"] * 3, "warmed up, then two turns each"
    assert [row.engine for row in rows] == ["a", "b"]
    assert lowest_cosine(np.eye(2, dtype=np.float32), np.array([[1, 0], [1, 1]], np.float32)) == pytest.approx(0.5**0.5)


def test_missing_files_and_wrong_numbers_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ModelConfig(backbone="test_resnet", pretrained=False, height_px=64, width_px=32)
    ReIDModel(Architecture(model=settings, num_identities=2)).save_pretrained(tmp_path / "model")
    for flags, sentence in (
        ([f"--export={tmp_path}"], "there is no"),
        (["--turns=0"], "must be positive"),
        (["--batch-sizes", "0"], "must be positive"),
    ):
        with pytest.raises(SystemExit) as left:
            main(["export", f"--model={tmp_path / 'model'}", *flags])
        assert left.value.code == 2
        assert sentence in " ".join(capsys.readouterr().err.replace("│", " ").split())
