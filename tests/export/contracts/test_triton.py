"""Triton: the model repository, and its own schema (where its client is installed)."""

from pathlib import Path

import pytest
from helpers.tool_exports import exported_for, lively_model

from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.config.export import ExportConfig
from reid_accel.export.contracts.tool_graph import tool_graph
from reid_accel.export.contracts.triton import settings
from reid_accel.export.metadata import info_of
from reid_accel.export.runtimes import open_runtime


def test_dimensions_are_without_the_batch() -> None:
    model = lively_model()
    text = settings(info_of(model, tool_graph(ExportConfig(), flavor="inside", pixel_range=255)))
    assert '{ name: "images", data_type: TYPE_FP32, dims: [ 3, 128, 64 ] }' in text
    assert '{ name: "output0", data_type: TYPE_FP32, dims: [ 64 ] }' not in text, "the control"
    assert f'{{ name: "output0", data_type: TYPE_FP32, dims: [ {model.feature_size} ] }}' in text
    assert "max_batch_size: 64" in text


def test_the_repository_has_one_version_of_one_model(tmp_path: Path) -> None:
    model = lively_model(groups=MARKET_GROUPS[:2])
    folder = exported_for("triton", model, tmp_path, with_attributes=True) / "models" / "reid"
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*")) == [
        "1/model.onnx",
        "config.pbtxt",
    ]
    opened = open_runtime(folder / "1" / "model.onnx").opened
    assert opened.inputs["images"] == (None, 3, 128, 64)
    text = (folder / "config.pbtxt").read_text()
    for name, (batch, length) in opened.outputs.items():
        assert batch is None
        assert f'{{ name: "{name}", data_type: TYPE_FP32, dims: [ {length} ] }}' in text
    assert len(opened.outputs) == 3


@pytest.mark.contracts
def test_the_configuration_is_in_tritons_schema() -> None:
    pytest.importorskip("rapidjson")  # without it, Triton's client can't be imported
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    info = info_of(
        lively_model(groups=MARKET_GROUPS[:2]),
        tool_graph(ExportConfig(with_attributes=True), flavor="inside", pixel_range=255, attributes=True),
    )
    config = text_format.Parse(settings(info), schema.ModelConfig())
    assert [list(each.dims) for each in config.input] == [[3, 128, 64]]
    assert [each.name for each in config.output] == list(info.output_names)
    assert config.HasField("dynamic_batching")
