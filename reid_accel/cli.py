"""`reid-accel`: all commands of the package.

Each command imports what it needs when it runs, so that help and errors need no torch.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from reid_accel.config.checks import in_home
from reid_accel.config.export import ExportConfig, word_list
from reid_accel.config.export_graph import FORMATS
from reid_accel.config.launch_file import check_launch_file
from reid_accel.config.recipes import launch_file_path, recipe_path, recipes, title_of
from reid_accel.errors import InputError, explaining_os_errors
from reid_accel.files import read_text
from reid_accel.terminal import open_output, shown_as_it_is, visible
from reid_accel.version import __version__
from reid_accel.weights.published import PublishedSettings

SUCCESS, PROBLEMS, MISUSE, INTERRUPTED = 0, 1, 2, 130
SETTINGS_OF = {"train": "training_settings", "score": "scoring_settings", "predict": "prediction_settings"}

DESCRIPTION = f"""Train, evaluate and use person re-identification models (version {__version__}).
`reid-accel COMMAND --help` explains a command, `reid-accel --version` prints the version."""

AS_PUBLISHED = PublishedSettings()
DEFAULT_EXPORT = ExportConfig()
Images = Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code: 0 success, 1 problems found, 2 misuse."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    open_output()
    try:
        with explaining_os_errors():
            code = _run(words)
    except InputError as error:
        print(f"reid-accel: {visible(str(error))}", file=sys.stderr)
        code = MISUSE
    except KeyboardInterrupt:
        print("reid-accel: interrupted; what was written so far is complete", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)


def _run(words: list[str]) -> int:
    command = words[0] if words else "--help"
    if command == "--version":
        print(f"reid_accel {__version__}")
        return SUCCESS
    if command in SETTINGS_OF:
        return run_script(command, words[1:])
    if command == "bench":
        importlib.import_module("reid_accel.bench").main(words[1:])
        return SUCCESS
    if command == "doctor":
        return int(importlib.import_module("reid_accel.doctor.command").main(words[1:]))
    if command == "split":
        for line in importlib.import_module("reid_accel.data.split_command").write_split(words[1:]):
            print(visible(line, kept=""))
        return SUCCESS
    with shown_as_it_is(words):
        if command in COMMANDS:  # by itself, so that errors and their hints are of the command
            code = tyro.cli(COMMANDS[command], prog=f"reid-accel {command}", args=words[1:])
        else:
            code = tyro.extras.subcommand_cli_from_dict(
                COMMANDS, prog="reid-accel", description=DESCRIPTION, args=words
            )
    return int(code or SUCCESS)


def run_script(name: str, words: list[str]) -> int:
    """Run a script in this process, or through accelerate's launcher when `--nproc` or `--launch` is given."""
    words, processes, launch_file = take_launch_options(words)
    settings = getattr(importlib.import_module("reid_accel.preflight"), SETTINGS_OF[name])(words)
    if processes > 1 or launch_file is not None:
        importlib.import_module("reid_accel.launcher").launch(name, words, processes, launch_file)
    else:
        importlib.import_module(f"reid_accel.{name}").run_script(settings)
    return SUCCESS


def take_launch_options(words: Sequence[str]) -> tuple[list[str], int, Path | None]:
    """The words without `--nproc N` and `--launch FILE`, and the values of both."""
    values: dict[str, str] = {}
    rest: list[str] = []
    remaining = iter(words)
    for word in remaining:
        name, equals, value = word.partition("=")
        if name in ("--nproc", "--launch"):
            values[name] = value if equals else next(remaining, "")
        else:
            rest.append(word)
    processes = values.get("--nproc", "1")
    if not processes.isdecimal() or int(processes) < 1:
        raise InputError(f"--nproc must be the number of processes, 1 or more, got {processes!r}")
    launch_file = launch_file_path(values["--launch"]) if "--launch" in values else None
    if launch_file is not None:
        check_launch_file(launch_file)
    return rest, int(processes), launch_file


def _train() -> None:
    """Train a model, evaluate it, and package it. All scripts: `--nproc N` processes, `--launch FILE` (see launch/)."""


def _score() -> None:
    """Evaluate a saved model on a data set, or evaluate saved features."""


def _predict() -> None:
    """Predict attributes and rank lists for unlabeled images."""


def _doctor() -> None:
    """Find what is wrong with a data set: labels, splits, cameras, pictures."""


def _bench() -> None:
    """Measure training, retrieval and exported files on this machine."""


def _split() -> None:
    """Write the split of a data set as a table: `reid-accel split FOLDER --to table.csv`."""


def _recipes(name: Positional[str | None] = None) -> int:
    """List the packaged recipes, or print one of them.

    Args:
        name: Recipe to print.
    """
    if name is not None:
        print(visible(read_text(recipe_path(name))), end="")
        return SUCCESS
    width = max(map(len, recipes()))
    for recipe, path in recipes().items():
        print(visible(f"{recipe:{width}}  {title_of(path)}"))
    return SUCCESS


def _export(
    model: Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]],
    module: str | None = None,
    settings: tyro.conf.OmitArgPrefixes[ExportConfig] = DEFAULT_EXPORT,
) -> int:
    """Export a saved model to ONNX, OpenVINO, TorchScript or torch.export, and prove it equal.

    Each file is run by its own runtime on 32 drawn pedestrians and images of the run, at several batch sizes; one that
    does not return the model's features is not written. golden.safetensors and check.py repeat the proof elsewhere.

    Args:
        model: Model folder of a run (RUN/model), or a hub's user/name.
        module: Python module to import first, which registers your own backbone with timm.
    """
    from reid_accel.evaluation.int8 import export_with_int8

    for line in export_with_int8(model, settings, module):
        print(visible(line, kept=""))
    return SUCCESS


def _push(
    folder: Positional[Path],
    repo_id: Positional[str],
    visibility: Literal["auto", "private", "public"] = "auto",
    formats: Annotated[tuple[str, ...], word_list("FORMAT", tuple(FORMATS)), tyro.conf.arg(name="with")] = (),
    dry_run: bool = False,
) -> int:
    """Upload a saved model to a model hub.

    Needs a token with write access: `hf auth login`, or HF_TOKEN. HF_ENDPOINT names another hub.

    Args:
        folder: Model folder of a run (RUN/model).
        repo_id: Repository (user/name), created if it is new.
        visibility: Of a new repository; `auto`: private, unless the model was trained on drawn pedestrians only.
        formats: Formats of the export in RUN/export that go along with its golden features and the tools' files,
            separated by commas: onnx, openvino, torch-export. It is made if there is none.
        dry_run: List files and sizes, upload nothing.
    """
    from reid_accel.hub import push

    place = Path(in_home(str(folder)))
    for line in push(place, repo_id, visibility=visibility, dry_run=dry_run, formats=formats).lines():
        print(visible(line, kept=""))
    return SUCCESS


def _check_submission(
    files: Positional[tuple[Path, ...]], test: Images = None, queries: Images = None, length: int = 50
) -> int:
    """Check classification_test.csv and reid_test.txt before they are submitted.

    Header, value ranges, colors, duplicates, missing and unknown names, line endings; each problem is printed as
    FILE:LINE: MESSAGE. Exit code 0: no problems, 1: problems, 2: misuse.

    Args:
        files: Either file or both; the content tells them apart.
        test: The test images, to find missing and unknown names.
        queries: The query images, to find missing and unknown names.
        length: Names per query (all test images if there are fewer).
    """
    if not files:
        raise InputError("check-submission needs the files to check: classification_test.csv, reid_test.txt or both")
    if length < 1:
        raise InputError(f"--length must be 1 or more, got {length}")
    from reid_accel.course.submission import check_classification, check_rank_lists, submission_kind

    test_names, query_names = _names(test), _names(queries)
    code = SUCCESS
    for path in (Path(in_home(str(file))) for file in files):
        kind = submission_kind(path)
        if kind == "classification":
            problems = check_classification(path, test_names)
        else:
            problems = check_rank_lists(path, test_names, query_names, length)
        for problem in problems:  # the format that editors and CI systems turn into links
            print(visible(f"{path}:{problem.line}: {problem.message}", kept=""))
        if problems:
            code = PROBLEMS
        else:
            unchecked = _unchecked(kind, test_names, query_names)
            print(visible(f"{path}: a {kind} file without problems{unchecked}", kept=""))
    return code


def _names(place: Path | None) -> list[str] | None:
    from reid_accel.data.left_out import left_out_warning
    from reid_accel.data.listing import find_images

    if place is None:
        return None
    place = Path(in_home(str(place)))
    paths = find_images(place)
    warning = left_out_warning(place, paths)
    if warning is not None:
        print(f"reid-accel: {visible(warning)}", file=sys.stderr)
    return [path.name for path in paths]


def _unchecked(kind: str, test_names: list[str] | None, query_names: list[str] | None) -> str:
    wanted = ["--test"] if test_names is None else []
    wanted += ["--queries"] if kind == "rank lists" and query_names is None else []
    return f"; give {' and '.join(wanted)} to compare the names too" if wanted else ""


def _import_weights(
    file: Positional[Path], to: Path, settings: tyro.conf.OmitArgPrefixes[PublishedSettings] = AS_PUBLISHED
) -> int:
    """Import a checkpoint of another trainer, or published ImageNet weights, without running anything in it.

    Known: torchreid, fast-reid, Bag of Tricks, TransReID, CLIP-ReID, SOLIDER, LUPerson, IBN-Net, torchvision's ResNets,
    EfficientNet-Lite, MobileNetV2; .pth, .pt, .pth.tar and .safetensors. A re-ID model becomes a model folder, a
    backbone a file for `--model.weights-file`.

    Args:
        file: Checkpoint.
        to: New folder.
    """
    from reid_accel.importing import import_weights

    for line in import_weights(file, to, settings).lines():
        print(visible(line, kept=""))
    return SUCCESS


COMMANDS: dict[str, Callable[..., Any]] = {
    "train": _train,
    "score": _score,
    "predict": _predict,
    "doctor": _doctor,
    "bench": _bench,
    "split": _split,
    "recipes": _recipes,
    "import-weights": _import_weights,
    "export": _export,
    "push": _push,
    "check-submission": _check_submission,
}


if __name__ == "__main__":
    main()
