"""The structure of the package itself: who may import whom, and names that would hide others."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "reid_accel"

# from the top floor down; a module imports from its own floor and from those below
FLOORS = (
    ("api",),
    ("train", "score", "predict", "bench", "cli"),
    ("evaluation.final_report", "benchmarks", "preflight", "launcher", "training.notes"),
    ("evaluation", "course.predictions", "training", "hub"),
    ("evaluation.evaluate", "evaluation.rank_lists"),
    ("reporting", "course"),
    ("retrieval.embed",),
    ("data.open", "data.tables"),
    ("data.dataset", "data.splits", "data.concat", "data.sets", "data.prefetch"),
    ("retrieval", "models.reid", "models.inference", "models.losses", "data.crop_cache", "synthetic.market"),
    ("models", "synthetic", "augment", "data"),
    ("attributes",),
    ("distributed",),
    ("config", "files", "hardware"),
    ("errors",),
)
MAY_USE_ACCELERATE = ("launcher", "train", "score", "predict", "bench", "benchmarks", "training", "distributed")
MAY_USE_ACCELERATE += ("evaluation.final_report", "reporting.tracking")


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found.append((".".join(part for part in parts if part != "__init__"), path))
    return [(name, path) for name, path in found if name and path.name != "__init__.py"]


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def floor(name: str) -> int:
    """The floor of a module: the one that names it, or the longest of its folders."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        for number, names in enumerate(FLOORS):
            if prefix in names:
                return number
    raise AssertionError(f"reid_accel/{name} is on no floor: add it to FLOORS in {Path(__file__).name}")


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_run_downwards_only(name: str, path: Path) -> None:
    known = {module for module, _ in modules()}
    for imported in sorted(imports(path)):
        other = imported.removeprefix("reid_accel.")
        if imported.startswith("reid_accel.") and other in known:
            assert floor(other) >= floor(name), f"{name} imports {other}, which is above it"


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_accelerate_stays_in_its_rooms(name: str, path: Path) -> None:
    uses = any(imported.split(".")[0] == "accelerate" for imported in imports(path))
    allowed = any(name == room or name.startswith(f"{room}.") for room in MAY_USE_ACCELERATE)
    assert allowed or not uses, f"{name} imports accelerate"


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_the_datasets_library_is_imported_by_one_module(name: str, path: Path) -> None:
    assert name == "data.tables" or "datasets" not in imports(path)


def test_a_script_hides_no_other_module() -> None:
    """`accelerate launch reid_accel/train.py` puts reid_accel/ first on the path."""
    ours = {entry.stem for entry in PACKAGE.iterdir() if entry.suffix == ".py" or entry.is_dir()}
    ours -= {"__init__", "__pycache__"}
    assert not ours & set(sys.stdlib_module_names)
    own_folders = (PACKAGE, PACKAGE.parent / "tests")
    without_package = [entry for entry in sys.path if Path(entry or ".").resolve() not in own_folders]
    hidden = [name for name in sorted(ours) if importlib.machinery.PathFinder.find_spec(name, without_package)]
    assert hidden == []


def test_no_pickle_is_read_and_nothing_is_caught_blindly() -> None:
    forbidden = (
        "import pickle",
        "allow_pickle=True",
        "weights_only=False",
        "torch.load(",
        "except Exception",
        "except:",
    )
    for name, path in modules():
        text = path.read_text(encoding="utf-8")
        assert not [word for word in forbidden if word in text], name
