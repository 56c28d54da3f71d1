"""A wheel holds all that a checkout offers, and trains in a folder without one."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.launching import REPOSITORY, TINY, read_json


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it would be published; built from a copy, since setuptools leaves its own files in the source."""
    copy, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in tracked:
        if (REPOSITORY / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((REPOSITORY / name).read_bytes())
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(built)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content, to be put on the path."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a Python command in a folder, with the wheel in place of the checkout."""
    names = {"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "COLUMNS": "200"}
    names |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=os.environ | names, capture_output=True, text=True, timeout=300
    )


def test_a_wheel_holds_all_modules_recipes_launch_files_and_templates(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "reid_accel").rglob("*.py")}
    data = {f"reid_accel/{path.relative_to(REPOSITORY)}" for path in (REPOSITORY / "configs").glob("*.yaml")}
    data |= {f"reid_accel/{path.relative_to(REPOSITORY)}" for path in (REPOSITORY / "launch").iterdir()}
    templates = (REPOSITORY / "reid_accel/reporting").rglob("templates/*")
    data |= {str(path.relative_to(REPOSITORY)) for path in templates} | {"reid_accel/py.typed"}
    assert modules | data <= held


def test_an_installed_package_lists_its_recipes_and_its_version(installed: Path, tmp_path: Path) -> None:
    listed = run(installed, tmp_path, "-m", "reid_accel.cli", "recipes")
    assert "quickstart  The default" in listed.stdout, listed.stderr
    found = run(installed, tmp_path, "-c", "import reid_accel; print(reid_accel.__file__, reid_accel.__version__)")
    assert found.stdout.split() == [str(installed / "reid_accel/__init__.py"), wheel_version(installed)]
    shown = run(installed, tmp_path, "-m", "reid_accel.cli", "--version")
    assert shown.stdout == f"reid_accel {wheel_version(installed)}\n"


def wheel_version(installed: Path) -> str:
    """The version in the wheel's metadata."""
    (metadata,) = installed.glob("*.dist-info/METADATA")
    return next(line for line in metadata.read_text().splitlines() if line.startswith("Version: ")).split()[1]


@pytest.mark.launch
@pytest.mark.parametrize("launcher", [(), ("--nproc", "2")], ids=["one process", "two processes"])
def test_an_installed_package_trains_the_quickstart_in_an_empty_folder(
    installed: Path, tmp_path: Path, launcher: tuple[str, ...]
) -> None:
    small = ("--data.synthetic-identities=20", "--data.cache-dir=cache", "--train.epochs=1", "--score.shown-queries=1")
    done = run(installed, tmp_path, "-m", "reid_accel.cli", "train", *launcher, *TINY, *small)
    assert done.returncode == 0, done.stdout + done.stderr
    report = read_json(tmp_path / "runs/quickstart/report.json")
    assert report["hardware"]["processes"] == (2 if launcher else 1)
    assert (tmp_path / "runs/quickstart/report.html").stat().st_size > 0
    assert (tmp_path / "runs/quickstart/model/README.md").stat().st_size > 0
