"""The checks of `bench gpu` on a real device: pytest -m gpu."""

from pathlib import Path

import pytest
import torch

from reid_accel.benchmarks.gpu.parts import COMPILED, RIGHT_PARTS, Part
from reid_accel.benchmarks.gpu.setup import Setup
from reid_accel.benchmarks.gpu.worker import rows_of

if not torch.cuda.is_available():
    pytest.skip("there is no CUDA device", allow_module_level=True)


@pytest.mark.gpu
@pytest.mark.parametrize("part", [*RIGHT_PARTS, COMPILED], ids=lambda part: part.title)
def test_the_device_computes_what_it_should(part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    rows = list(rows_of(part, Setup(torch.device("cuda", 0), tmp_path)))
    assert rows
    assert not [row.line() for row in rows if row.status == "failed"]
