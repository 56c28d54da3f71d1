import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from reid_accel.attributes import mat_file
from reid_accel.attributes.annotations import read_market_mat, write_market_mat
from reid_accel.attributes.mat_file import LARGEST_BYTES
from reid_accel.attributes.vocabulary import MARKET_COLUMNS
from reid_accel.errors import InputError


@pytest.mark.parametrize("name", ["segv.mat", "one_bit_flip.mat"])
def test_a_file_that_crashes_the_reader_is_a_sentence(shared_data: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"{name} cannot be read as Market-1501's annotation: its reader ended with"):
        read_market_mat(shared_data / "hostile" / name)


def half(people: int, **changes: object) -> dict[str, object]:
    columns: dict[str, object] = {column: np.ones(people) for column in MARKET_COLUMNS}
    return columns | {"image_index": np.array([f"{pid:04d}" for pid in range(1, people + 1)], object)} | changes


def refusal(path: Path, train: object, test: object | None = None) -> str:
    scipy.io.savemat(path, {"market_attribute": {"train": train, "test": half(2) if test is None else test}})
    with pytest.raises(InputError) as info:
        read_market_mat(path)
    assert path.name in str(info.value)
    assert len(str(info.value)) < 1000
    return str(info.value)


def test_plain_numbers_are_the_control(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"market_attribute": {"train": half(3), "test": half(2)}})
    people = read_market_mat(tmp_path / "a.mat")
    assert {name: list(members) for name, members in people.items()} == {"train": [1, 2, 3], "test": [1, 2]}


STRUCTURES: dict[str, tuple[Callable[[], object], str]] = {
    "no structure": (lambda: np.zeros(3), "must be a structure"),
    "a text": (lambda: "train", "must be a structure"),
    "another length": (lambda: half(3, age=np.ones(2)), "different numbers of people"),
    "a matrix": (lambda: half(3, age=np.ones((3, 3))), "one value per person"),
    "a fraction": (lambda: half(2, age=np.array([1.5, 1.0])), "the field age has the value 1.5"),
    "no number": (lambda: half(2, age=np.array([np.nan, 1.0])), "cannot convert float NaN"),
    "infinity": (lambda: half(2, age=np.array([np.inf, 1.0])), "infinity"),
    "complex": (lambda: half(2, age=np.array([1j, 1.0])), "the field age has the value 1j"),
    "nested": (lambda: half(2, age={"a": 1, "b": 2}), "the field age has the value"),
    "out of range": (lambda: half(2, age=np.array([9.0, 1.0])), "person 0001: attribute age must be between 1 and 4"),
    "a text for a number": (lambda: half(2, age=np.array(["two", "one"], object)), "person 0001"),
    "no person": (lambda: half(2, image_index=np.array(["x", "0002"], object)), "'x' is not a whole number"),
    "a person twice": (lambda: half(2, image_index=np.array(["2", "0002"], object)), "0002 is listed twice"),
    "a long name": (lambda: half(1, image_index=np.array(["x" * 10**5], object)), "the field image_index has"),
    "no columns": (lambda: {"image_index": np.array(["1", "2"], object), "a": np.ones(2)}, "lacks the fields: age"),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_another_structure_is_refused(tmp_path: Path, name: str) -> None:
    made, sentence = STRUCTURES[name]
    assert sentence in refusal(tmp_path / "a.mat", made())


def test_a_missing_half_is_refused(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"market_attribute": {"train": half(2), "probe": half(2)}})
    with pytest.raises(InputError, match="it has no test"):
        read_market_mat(tmp_path / "a.mat")


def test_content_that_expands_to_a_gigabyte_is_not_expanded(tmp_path: Path) -> None:
    content = {"market_attribute": {"train": half(2), "test": half(2, age=np.zeros(LARGEST_BYTES // 8 + 100))}}
    scipy.io.savemat(tmp_path / "bomb.mat", content, do_compression=True)
    assert (tmp_path / "bomb.mat").stat().st_size < 100_000
    with pytest.raises(InputError, match="its content has more than 32 MB"):
        read_market_mat(tmp_path / "bomb.mat")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "huge.mat", "wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(InputError, match="it has more than 32 MB"):
        read_market_mat(tmp_path / "huge.mat")


def test_a_reader_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mat_file, "_START", "import time; time.sleep(60)")
    monkeypatch.setattr(mat_file, "SECONDS", 0.5)
    with pytest.raises(InputError, match="takes longer than"):
        read_market_mat(tmp_path / "any.mat")


def test_a_reader_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mat_file, "_START", "import no_such_module")
    with pytest.raises(InputError, match=r"code 1 \(ModuleNotFoundError: No module named 'no_such_module'\)"):
        read_market_mat(tmp_path / "any.mat")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(InputError, match="cannot be started"):
        read_market_mat(tmp_path / "any.mat")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits on memory need Linux")
def test_the_reader_has_limited_memory_and_time() -> None:
    code = (
        "from reid_accel.attributes.mat_file import limit_resources, MEMORY_BYTES\n"
        "import resource\n"
        "before = bytearray(MEMORY_BYTES + 2**20)\n"  # the control: possible before the limit
        "del before\n"
        "limit_resources()\n"
        "assert resource.getrlimit(resource.RLIMIT_CPU)[0] == 60\n"
        "try:\n    bytearray(MEMORY_BYTES + 2**20)\nexcept MemoryError:\n    print('limited')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "limited\n"


WITHOUT_RESOURCE = """
import builtins

imported = builtins.__import__

def without_resource(name, globals=None, *more):
    if name == "resource" and (globals or {}).get("__name__", "").startswith("reid_accel"):
        raise ImportError("this system has no module resource")
    return imported(name, globals, *more)

builtins.__import__ = without_resource
"""


def test_it_reads_where_the_system_offers_no_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_RESOURCE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    people = {1: (0,) * 12}
    write_market_mat(tmp_path / "a.mat", people, people)
    code = "from reid_accel.attributes.mat_file import limit_resources\nlimit_resources()\n"
    code += (
        "import resource\nif resource.getrlimit(resource.RLIMIT_CPU)[0] == resource.RLIM_INFINITY:\n    print('none')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "none\n"
    assert read_market_mat(tmp_path / "a.mat") == {"train": people, "test": people}


def test_a_script_without_a_main_guard_reads_once(tmp_path: Path) -> None:
    people = {1: (0,) * 12}
    write_market_mat(tmp_path / "a.mat", people, people)
    (tmp_path / "script.py").write_text(
        "print('started')\n"
        "from pathlib import Path\n"
        "from reid_accel.attributes.annotations import read_market_mat\n"
        f"print(read_market_mat(Path({str(tmp_path / 'a.mat')!r}))['train'])\n"
    )
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=True)
    assert done.stdout == f"started\n{people}\n"


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_end_in_a_sentence_or_in_an_annotation(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = dict.fromkeys(range(1, 20), (0,) * 12)
    write_market_mat(tmp_path / "a.mat", people, people)
    content = bytearray((tmp_path / "a.mat").read_bytes())
    for bit in rng.integers(0, 8 * len(content), 3):
        content[bit // 8] ^= 1 << (bit % 8)
    (tmp_path / "a.mat").write_bytes(content)
    sentence = ""
    try:
        assert set(read_market_mat(tmp_path / "a.mat")) == {"train", "test"}
    except InputError as error:
        sentence = str(error)
    assert not sentence or "a.mat" in sentence
