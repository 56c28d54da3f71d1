from reid_accel.export.packed import card_section, pushed_names

NAMES = [
    "model.onnx", "model.xml", "model.bin", "model.torchscript", "model.pt2", "golden.safetensors", "check.py",
    "boxmot/reid.onnx", "boxmot/reid_openvino_model/reid.bin", "roboflow/reid.torchscript", "roboflow/README.md",
]  # fmt: skip


def test_only_the_formats_and_what_has_no_pickled_parts_is_pushed() -> None:
    along = {"golden.safetensors", "check.py", "boxmot/reid.onnx", "boxmot/reid_openvino_model/reid.bin"}
    assert set(pushed_names(NAMES, ["onnx"])) == {"model.onnx", *along}
    assert set(pushed_names(NAMES, ["openvino", "torch-export"])) == {"model.xml", "model.bin", "model.pt2", *along}


def test_the_card_says_what_loads_a_file_and_what_it_expects() -> None:
    graph = {
        "height_px": 256, "width_px": 128, "color": "bgr", "normalize": "graph", "pixel_range": 255,
        "input_name": "images",
    }  # fmt: skip
    entry = {
        "file": "model.xml", "format": "openvino", "graph": graph, "lowest_cosine": 1.0, "num_images": 48,
        "batches": [1, 2],
    }  # fmt: skip
    text = card_section([entry, {**entry, "format": "onnx"}], ["boxmot"], ["openvino"])
    assert "| `export/model.xml` | OpenVINO: `openvino.Core().compile_model`" in text
    assert "`images`: N x 3 x 256 x 128, BGR, 0 to 255 | 1.000000 |" in text
    assert "on 48 images at batch sizes 1, 2" in text
    assert "- boxmot: see `export/boxmot/README.md`" in text
    assert "ONNX Runtime" not in text
