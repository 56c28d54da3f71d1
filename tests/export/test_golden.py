"""The proof that travels with an export: check.py and golden.safetensors."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.exports import saved
from safetensors.numpy import load_file, save_file

from reid_accel import ReIDModel
from reid_accel.config.export import ExportConfig
from reid_accel.export.write import export

pytest.importorskip("onnxruntime", reason="needs the extra `export`")
ONLY_WHAT_IT_NEEDS = """
import runpy, sys
for name in ("torch", "reid_accel", "safetensors", "timm", "PIL", "onnx"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX export whose pixels come as BGR to 255."""
    pytest.importorskip("onnxscript", reason="needs the extra `export`")
    model = saved(tmp_path_factory.mktemp("run"), neck="bn")
    return export(str(model), ExportConfig(flavor="inside", pixel_range=255, bgr=True)).folder


def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ONLY_WHAT_IT_NEEDS, str(folder / "check.py"), str(folder / "model.onnx")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_script_passes_with_nothing_but_numpy_and_the_runtime(folder: Path) -> None:
    done = checked(folder)
    assert done.returncode == 0, done.stderr
    assert "at batch sizes 1, 2, 7, 32 is 1.000000" in done.stdout
    tree = ast.parse((folder / "check.py").read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {getattr(node, "module", None) or node.names[0].name for node in nodes}
    assert names == {"json", "sys", "pathlib", "numpy", "onnxruntime", "openvino"}


def test_the_golden_features_are_the_models(folder: Path) -> None:
    golden = load_file(folder / "golden.safetensors")
    assert golden["images"].dtype == np.uint8
    features = ReIDModel.from_pretrained(folder.parent / "model").embed(list(golden["images"]), batch_size=32)
    np.testing.assert_allclose(golden["features"], features.numpy(), atol=1e-6)


def test_the_script_fails_on_other_features(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copied")
    golden = load_file(folder / "golden.safetensors")
    save_file({**golden, "features": golden["features"][::-1].copy()}, tmp_path / "copied/golden.safetensors")
    done = checked(tmp_path / "copied")
    assert done.returncode == 1
    assert "does not return the golden features: 0.9999 is needed" in done.stderr
