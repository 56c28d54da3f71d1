"""The recipes (configs/) and launch files (launch/) that come with the package, by name."""

from pathlib import Path

from reid_accel.config.checks import in_home
from reid_accel.errors import InputError
from reid_accel.files import regular_only

DEFAULT_RECIPE = "quickstart"
"""The recipe of a command that names none."""

_PACKAGE = Path(__file__).resolve().parents[1]


def recipes() -> dict[str, Path]:
    """The packaged recipes by name."""
    return _shipped("configs")


def recipe_path(name: str) -> Path:
    """The file of a packaged recipe (`market1501`), or a recipe given by its path. Raises InputError for neither."""
    return _by_name(name, recipes(), "recipe")


def launch_file_path(name: str) -> Path:
    """The file of a packaged launch file (`multi_gpu`), or one given by its path. Raises InputError for neither."""
    return _by_name(name, _shipped("launch"), "launch file")


def title_of(recipe: Path) -> str:
    """What a recipe is for: its first line."""
    with open(recipe, encoding="utf-8", opener=regular_only) as file:
        return file.readline().lstrip("# ").rstrip()


def _shipped(folder: str) -> dict[str, Path]:
    """YAML files by name: an installed package has the folder inside, a checkout has it at its root."""
    inside = _PACKAGE / folder
    place = inside if inside.is_dir() else _PACKAGE.parent / folder
    return {path.stem: path for path in sorted(place.glob("*.yaml"))}


def _by_name(name: str, known: dict[str, Path], kind: str) -> Path:
    if name in known:
        return known[name]
    path = Path(in_home(name))
    if not path.is_file():
        raise InputError(f"there is no {kind} {name}: give the path of a YAML file, or one of {', '.join(known)}")
    return path
