"""Every kind of backbone becomes one ONNX file for any batch size, with old operators and no data outside."""

from pathlib import Path
from typing import Any

import pytest
from helpers.exports import GROUPS, saved

from reid_accel.config.export import ExportConfig
from reid_accel.export.runtimes import open_runtime
from reid_accel.export.write import export
from reid_accel.models.architecture import Cameras

onnx = pytest.importorskip("onnx", reason="needs the extra `export`")

CAMERAS = Cameras(numbers=(1, 2, 5), data_set="somewhere")
BACKBONES: dict[str, dict[str, Any]] = {
    "ResNet with IBN-a, stripes and GeM": {
        "backbone": "resnet10t_ibn_a", "stripes": (1, 2), "pooling": "gem", "neck": "bn", "last_stride": 1
    },
    "OSNet": {"backbone": "osnet_x0_25", "neck": "linear", "neck_units": 32},
    "OSNet with instance norm": {"backbone": "osnet_ain_x0_25", "neck": "bn", "metric": "euclidean"},
    "MobileNet": {"backbone": "mobilenetv3_small_050", "groups": GROUPS},
    "EfficientNet": {"backbone": "test_efficientnet", "neck": "bn", "neck_feature": "before"},
    "ConvNeXt": {"backbone": "test_convnext", "fit": "letterbox"},
    "ViT with overlapping patches": {"backbone": "test_vit", "patch_stride": 12, "neck": "bn"},
    "ViT with a camera embedding": {"backbone": "test_vit", "camera_embedding": 3.0, "cameras": CAMERAS, "neck": "bn"},
    "Swin": {"backbone": "swin_tiny_patch4_window7_224", "neck": "bn"},
}  # fmt: skip
CONVERTED = {"Swin": 18}  # onnx has no conversion of Pad


SLOW = ("OSNet with instance norm", "MobileNet", "ViT with overlapping patches", "Swin")


def kinds() -> list[Any]:
    return [pytest.param(kind, marks=pytest.mark.long) if kind in SLOW else kind for kind in BACKBONES]


@pytest.mark.parametrize("kind", kinds())
def test_a_backbone_is_exported_and_proven(kind: str, tmp_path: Path) -> None:
    (written,) = export(str(saved(tmp_path, **BACKBONES[kind])), ExportConfig()).written
    assert written.proof.lowest_cosine > 0.999999
    model = onnx.load(tmp_path / "export/model.onnx", load_external_data=False)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", CONVERTED.get(kind, 17))]
    assert bool(written.notes) == (kind in CONVERTED)
    assert model.ir_version <= 10
    assert not any(each.external_data for each in model.graph.initializer)
    height, width = written.info.height_px, written.info.width_px
    assert open_runtime(tmp_path / "export/model.onnx").opened.inputs == {"images": (None, 3, height, width)}
    for value, name in ((model.graph.input[0], "images"), (model.graph.output[0], "output0")):
        assert (value.name, value.type.tensor_type.shape.dim[0].dim_param) == (name, "batch")
    assert not [node for node in model.graph.node if node.metadata_props or node.doc_string]
    folded = {"Conv", "Gemm"}
    producers = {output: node.op_type for node in model.graph.node for output in node.output}
    norms = [producers.get(node.input[0]) for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert not folded & set(norms)


@pytest.mark.parametrize("form", ["onnx", "openvino", "torchscript", "torch-export"])
def test_half_precision_halves_the_weights_and_keeps_the_features(form: str, tmp_path: Path) -> None:
    model = saved(tmp_path, groups=GROUPS, neck_units=64)
    config = ExportConfig(to=(form,), half=True, with_attributes=True, flavor="inside", pixel_range=255)
    (written,) = export(str(model), config).written
    assert written.info.precision == "half"
    assert 0.999 <= written.proof.lowest_cosine < 1
    size = sum((tmp_path / "export" / file.name).stat().st_size for file in written.files)
    assert size < 0.75 * (model / "model.safetensors").stat().st_size
