import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from helpers.exports import GROUPS, saved
from helpers.made_sets import make_market

from reid_accel import ReIDModel, recipe
from reid_accel.config.export import ExportConfig
from reid_accel.config.parse import to_yaml
from reid_accel.errors import InputError
from reid_accel.export.runtimes import as_tensor, graph_input, open_runtime
from reid_accel.export.write import export

pytest.importorskip("onnxscript", reason="needs the extra `export`")
pytest.importorskip("onnxruntime", reason="needs the extra `export`")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export to all formats, with normalization inside, BGR pixels to 255 and attributes."""
    pytest.importorskip("openvino", reason="needs the extra `export`")
    model = saved(tmp_path_factory.mktemp("run"), groups=GROUPS)
    config = ExportConfig(
        to=("onnx,openvino,torchscript,torch-export",), flavor="inside", pixel_range=255, bgr=True, with_attributes=True
    )
    return export(str(model), config).folder


@pytest.mark.parametrize("name", ["model.onnx", "model.xml", "model.torchscript", "model.pt2"])
def test_every_format_returns_the_models_features_and_attributes(folder: Path, name: str) -> None:
    model = ReIDModel.from_pretrained(folder.parent / "model")
    pixels = np.random.default_rng(3).integers(0, 256, (5, 64, 32, 3), np.uint8)
    runtime = open_runtime(folder / name)
    bgr = np.ascontiguousarray(pixels[..., ::-1].transpose(0, 3, 1, 2), np.float32)
    feature_ND, hat, color = runtime.run(bgr)
    np.testing.assert_allclose(feature_ND, model.embed(list(pixels)).numpy(), atol=2e-5)
    right = model.attributes(list(pixels), probabilities=True)
    np.testing.assert_allclose(hat[:, 1], [row["hat"]["yes"] for row in right], atol=1e-5)
    np.testing.assert_allclose(color[:, 2], [row["upper color"]["blue"] for row in right], atol=1e-5)
    assert runtime.info is not None
    np.testing.assert_allclose(graph_input(as_tensor(pixels), runtime.info), bgr, atol=1e-4)
    assert runtime.info.output_names == ("output0", "attribute_hat", "attribute_upper_color")


def test_a_signal_after_two_openvino_files_is_handled(folder: Path) -> None:
    """Where the processor has AMX, a signal after two OpenVINO cores have ended is a segmentation fault."""
    code = (
        "import gc, os, signal, sys; from pathlib import Path; from reid_accel.export import openvino_file\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('handled'))\n"
        "first, second = (openvino_file.opened(Path(sys.argv[1])) for _ in range(2))\n"
        "del first; gc.collect(); del second; gc.collect()\n"
        "os.kill(os.getpid(), signal.SIGUSR1)"
    )
    done = subprocess.run([sys.executable, "-c", code, folder / "model.xml"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_the_manifest_holds_the_hash_of_every_file(folder: Path) -> None:
    content = json.loads((folder / "export.json").read_text())
    names = {path.name for path in folder.iterdir()} - {"export.json"}
    assert set(content["sha256"]) == names
    assert "golden.safetensors" in names
    assert "trtexec.sh" in names


def test_no_identity_classifier_leaves(folder: Path) -> None:
    program = torch.export.load(folder / "model.pt2")
    script = torch.jit.load(folder / "model.torchscript")
    state = {**program.state_dict, **dict(script.named_parameters()), **dict(script.named_buffers())}
    assert not [name for name, value in state.items() if "identity" in name and value.numel()]


def test_an_export_is_not_overwritten_unless_asked_for(folder: Path) -> None:
    with pytest.raises(InputError, match="has an earlier export: replace it with --overwrite"):
        export(str(folder.parent / "model"), ExportConfig())


def test_the_proof_takes_images_of_the_run_and_of_a_folder(tmp_path: Path) -> None:
    market = make_market(tmp_path / "market")
    model = saved(tmp_path / "run")
    run = recipe("quickstart", data={"name": "market-layout", "root": str(market)})
    (tmp_path / "run/config.yaml").write_text(to_yaml(run))
    queries = len(list((market / "query").iterdir()))
    config = ExportConfig(to=("torchscript",))
    assert export(str(model), config).written[0].proof.num_images == 32 + queries
    (market / "bounding_box_test").rename(tmp_path / "elsewhere")  # the data set is not there anymore
    config = ExportConfig(to=("torchscript",), overwrite=True, images=str(market / "query"))
    assert export(str(model), config).written[0].proof.num_images == 32 + queries
    config = ExportConfig(to=("torchscript",), overwrite=True)
    assert export(str(model), config).written[0].proof.num_images == 32


@pytest.mark.parametrize(("metric", "unit_length", "is_unit"), [
    ("cosine", "auto", True), ("cosine", "off", False), ("euclidean", "auto", False), ("euclidean", "on", True),
])  # fmt: skip
def test_features_have_unit_length_where_it_is_wanted(
    metric: str, unit_length: Literal["auto", "on", "off"], is_unit: bool, tmp_path: Path
) -> None:
    model = saved(tmp_path, metric=metric, neck="bn")
    folder = export(str(model), ExportConfig(to=("torch-export",), unit_length=unit_length)).folder
    runtime = open_runtime(folder / "model.pt2")
    assert runtime.info is not None
    assert (runtime.info.unit_length, runtime.info.metric) == (is_unit, metric)
    images = np.random.default_rng(0).normal(size=(3, 3, 64, 32)).astype(np.float32)
    length_N = np.linalg.norm(runtime.features(images), axis=1)
    assert np.allclose(length_N, 1, atol=1e-5) == is_unit
