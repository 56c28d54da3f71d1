"""The package on other systems than Linux with float64: macOS and Windows by the names that they lack, Apple's MPS.

pytest -m systems
"""

import errno
import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.launching import REPOSITORY, TINY, environment
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from reid_accel import hardware
from reid_accel.augment import rng
from reid_accel.augment.rng import Draws
from reid_accel.bench import main as bench
from reid_accel.data import cache_dir, crop_cache
from reid_accel.distributed.stop import StopRequest
from reid_accel.errors import InputError
from reid_accel.evaluation.evaluate import junk_entry
from reid_accel.files import write_text
from reid_accel.launcher import launch
from reid_accel.train import main as train
from reid_accel.training import metrics

CORE = REPOSITORY / "tests/helpers/other_system/core.py"
RESULTS = ("run/model/model.safetensors", "predict/classification_test.csv", "predict/reid_test.txt")


@pytest.mark.systems
def test_training_scoring_predicting_and_resuming_need_nothing_that_only_linux_has(tmp_path: Path) -> None:
    """In a process without those names, whose children are spawned; the results are the same to the bit."""
    digests, says = [], []
    for mode in ("keep", "remove"):
        folder = tmp_path / mode
        folder.mkdir()
        variables = environment(folder) | {"PYTHONPATH": os.pathsep.join((str(CORE.parent), str(REPOSITORY)))}
        done = subprocess.run(
            [sys.executable, str(CORE), mode], cwd=folder, env=variables, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, done.stdout + done.stderr
        says.append(done.stdout)
        digests.append([hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in RESULTS])
    assert "start method: spawn" in says[1]
    assert says[1].count("resuming from") == 1
    assert digests[0] == digests[1]


def test_cores_are_counted_where_the_system_gives_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert hardware.num_cores() == 6


def _missing(*_: Any) -> None:
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


@pytest.mark.parametrize("change", [None, _missing], ids=["no such function", "not on this file system"])
def test_disk_space_is_reserved_by_writing_where_it_cannot_be_otherwise(
    change: Callable[..., None] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if change is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", change)
    monkeypatch.setattr(crop_cache, "ZEROS_WRITTEN", 1000)
    crops = crop_cache._allocate(tmp_path / "crops.npy", (7, 3, 64, 32))
    crops[6] = 9
    crops.flush()
    read = np.load(tmp_path / "crops.npy")
    assert read.shape == (7, 3, 64, 32)
    assert read[:6].sum() == 0
    assert (read[6] == 9).all()
    assert (tmp_path / "crops.npy").stat().st_blocks * 512 >= read.nbytes

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def fileno(self) -> int:
            return 0

    with pytest.raises(OSError, match="No space left"):
        crop_cache._reserve(Full(bytes(5000)), 5000)


def test_the_spare_cache_needs_no_user_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "getuid")
    monkeypatch.setattr(cache_dir.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / "file").touch()
    assert cache_dir.writable_cache(tmp_path / "file" / "cache") == tmp_path / "reid_accel"


def test_files_are_written_where_folders_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reid_accel.files import replacing_folder

    opened = os.open

    def files_only(path: Any, *arguments: Any, **options: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", files_only)
    with replacing_folder(tmp_path / "folder") as temporary:
        write_text(temporary / "a.txt", "a")
    assert (tmp_path / "folder/a.txt").read_text() == "a"


def test_a_run_can_be_stopped_where_there_is_no_sigusr1(monkeypatch: pytest.MonkeyPatch) -> None:
    members = {name: number for name, number in signal.Signals.__members__.items() if name != "SIGUSR1"}
    monkeypatch.setattr(signal.Signals, "_member_map_", members)
    monkeypatch.delattr(signal, "SIGUSR1")
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal_name == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_needs_linux_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: not str(path).startswith("/proc") and exists(path))
    for name in ("gpu", "train", "retrieval"):
        with pytest.raises(SystemExit) as left:
            bench([name])
        assert left.value.code == 2
        assert "the benchmarks need Linux" in capsys.readouterr().err
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(InputError, match="several processes need Linux or macOS"):
        launch("train", [], 2, None)


class NoFloat64(TorchDispatchMode):
    """torch as on a device without float64; what is computed on the host there may have it."""

    on_host = (rng.uniforms, junk_entry)

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        """Call the function, and refuse a result in float64."""
        result = function(*arguments, **(options or {}))
        if isinstance(result, Tensor) and result.dtype == torch.float64 and not self._is_on_the_host():
            raise TypeError(f"{function} makes float64, which the MPS framework doesn't support")
        return result

    @staticmethod
    def _is_on_the_host() -> bool:
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            if any(frame.f_code is function.__code__ for function in NoFloat64.on_host):
                return True
        return False


def test_training_and_scoring_need_no_float64_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [
        *TINY, "--data.synthetic-identities=12", f"--data.cache-dir={tmp_path / 'cache'}", "--train.batch-size=16",
        "--data.validation-share=0.2", "--train.epochs=1", "--train.ema-decay=0.9",
        "--loss.center=0.001", "--loss.triplet=1", "--train.images-per-identity=2", "--score.rerank",
        "--score.query-expansion=2", "--augment.trivial-augment=0.5", "--augment.erase-probability=0.5",
        "--augment.patch-probability=0.5", "--augment.rotation-degrees=10", "--train.skip-nonfinite=2",
        "--loss.balance-attributes",
    ]  # fmt: skip
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    train([*arguments, f"--run.dir={tmp_path / 'exact'}"])
    for module in (metrics, rng):
        monkeypatch.setattr(module, "exact_float", lambda device: torch.float32)
    with NoFloat64():
        with pytest.raises(TypeError, match="makes float64"):
            torch.ones(1, dtype=torch.float64)
        train([*arguments, f"--run.dir={tmp_path / 'float32'}"])
    model = "model/model.safetensors"
    assert (tmp_path / "exact" / model).read_bytes() == (tmp_path / "float32" / model).read_bytes()


def test_random_numbers_are_the_same_on_devices_without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    rows_B = torch.arange(50)
    expected = Draws.of(3, 2, rows_B).numbers_Bn
    monkeypatch.setattr(rng, "exact_float", lambda device: torch.float32)
    assert torch.equal(Draws.of(3, 2, rows_B).numbers_Bn, expected)
    assert hardware.exact_float(torch.device("mps")) == torch.float32
    assert hardware.exact_float(torch.device("cuda")) == hardware.exact_float(torch.device("cpu")) == torch.float64


def test_a_run_outside_the_main_thread_trains(small_market: Path, tmp_path: Path) -> None:
    arguments = [
        *TINY, "--data.name=market-layout", f"--data.root={small_market}", "--data.validation-share=0",
        f"--data.cache-dir={tmp_path / 'cache'}", "--train.batch-size=8", "--train.epochs=1",
        f"--run.dir={tmp_path / 'run'}",
    ]  # fmt: skip
    thread = threading.Thread(target=train, args=(arguments,))
    thread.start()
    thread.join()
    assert (tmp_path / "run/report.json").is_file()
