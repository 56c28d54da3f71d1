"""The structure of the package itself: who may import whom, and names that would hide others."""

import ast
import importlib.util
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "reid_accel"

# Rooms (folders, or modules outside a folder) from the top floor down. A room imports only from floors below; within a
# room anything but circles is allowed.
FLOORS = (
    ("__init__",),
    ("cli", "api"),
    ("train", "score", "predict", "bench", "launcher"),
    ("preflight", "evaluation", "benchmarks", "doctor"),
    ("training", "course", "hub", "importing"),
    ("reporting", "retrieval"),
    ("export",),
    ("models",),
    ("augment", "weights"),
    ("data",),
    ("synthetic", "distributed"),
    ("hardware",),
    ("attributes", "config"),
    ("errors", "files", "version"),
    ("processes", "terminal"),
)
RESTRICTED_UNPICKLING = {"weights.containers": ("torch.load(", "import pickle")}  # the exception of torch's unpickler
MAY_USE_ACCELERATE = ("launcher", "train", "score", "predict", "bench", "benchmarks", "training", "distributed")
MAY_USE_ACCELERATE += ("evaluation.final_report", "reporting.tracking")


def modules() -> list[tuple[str, Path]]:
    found = [(path.relative_to(PACKAGE).with_suffix("").parts, path) for path in sorted(PACKAGE.rglob("*.py"))]
    return [(".".join(parts).removesuffix(".__init__"), path) for parts, path in found]


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_imports(path: Path) -> set[str]:
    """The modules of the package that a module imports, those for annotations included."""
    names = {"__init__" if name == "reid_accel" else name.removeprefix("reid_accel.") for name in imports(path)}
    return names & {name for name, _ in modules()}


def room(name: str) -> str:
    return name.split(".")[0]


def floor(room: str) -> int:
    floors = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert len(floors) == 1, f"reid_accel/{room} must be on one floor: add it to FLOORS in {Path(__file__).name}"
    return floors[0]


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_run_downwards_only(name: str, path: Path) -> None:
    for other in sorted(own_imports(path)):
        if room(other) != room(name):
            assert floor(room(other)) > floor(room(name)), f"{name} imports {other}, which is not on a floor below"


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter({name: own_imports(path) for name, path in modules()}).prepare()  # raises CycleError


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_accelerate_stays_in_its_rooms(name: str, path: Path) -> None:
    uses = any(imported.split(".")[0] == "accelerate" for imported in imports(path))
    allowed = any(name == room or name.startswith(f"{room}.") for room in MAY_USE_ACCELERATE)
    assert allowed or not uses, f"{name} imports accelerate"


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_the_datasets_library_is_imported_by_few_modules(name: str, path: Path) -> None:
    assert name in ("data.tables", "data.forms.hub_tables") or "datasets" not in imports(path)


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
        allowed = RESTRICTED_UNPICKLING.get(name, ())
        assert not [word for word in forbidden if word in text and word not in allowed], name


def test_the_one_reader_of_pickles_is_restricted() -> None:
    for name in RESTRICTED_UNPICKLING:
        tree = ast.parse(dict(modules())[name].read_text(encoding="utf-8"))
        calls = [
            node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
        ]
        assert calls
        for call in calls:
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert given["weights_only"] == "True"
            assert "pickle_module" not in given


# what they open is no user's: the package's own files, /proc, or files that they have just made; export.check_script
# runs where this package isn't installed
OPEN_AS_THEY_LIKE = ("files", "processes", "hardware", "reporting.provenance", "attributes.mat_reader", "benchmarks")
OPEN_AS_THEY_LIKE += ("export.check_script",)


def reads_of(path: Path) -> list[str]:
    """The calls of a module that would wait for the writer of a FIFO."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    found = []
    for call in calls:
        text = ast.unparse(call)
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("read_text", "read_bytes"):
            found.append(text)
        elif isinstance(call.func, ast.Name) and call.func.id == "open" and "opener=" not in text:
            found += [] if '"rb+"' in text.replace("'", '"') else [text]  # what it has just written itself
    return found


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_files_are_opened_by_what_refuses_fifos(name: str, path: Path) -> None:
    exempt = any(name == other or name.startswith(f"{other}.") for other in OPEN_AS_THEY_LIKE)
    assert exempt or not reads_of(path), f"{name}: use files.read_text, files.read_bytes or files.open_regular"


def test_the_check_of_opened_files_finds_some(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("open(p)\np.read_text()\nopen(p, 'rb+')\nopen(p, opener=regular_only)\n")
    assert reads_of(tmp_path / "a.py") == ["open(p)", "p.read_text()"]
