"""`reid-accel`: what needs no launcher. Pushing a model folder, checking files that are to be handed in."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reid_accel.course.submission import (
    DEFAULT_LENGTH,
    Problem,
    check_classification,
    check_rank_lists,
    submission_kind,
)
from reid_accel.data.listing import list_images
from reid_accel.errors import InputError
from reid_accel.hub import push

FINE, PROBLEMS, MISUSE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a subcommand and leave with its exit code: 0 fine, 1 problems found, 2 misuse."""
    options = build_parser().parse_args(arguments)
    try:
        code = _push(options) if options.command == "push" else _check_submission(options)
    except InputError as error:
        code = _misused(str(error))
    except OSError as error:
        code = _misused(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    sys.exit(code)


def _misused(sentence: str) -> int:
    print(f"reid-accel: {sentence}", file=sys.stderr)
    return MISUSE


def build_parser() -> argparse.ArgumentParser:
    """The command line; `--help` of each subcommand says what it needs."""
    parser = argparse.ArgumentParser(prog="reid-accel", description="Person re-identification models: tools.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    pushing = commands.add_parser(
        "push",
        help="upload a saved model to a model hub",
        description="Upload a saved model (the model/ folder of a run) to a model hub. Needs a token with "
        "write access: `hf auth login`, or HF_TOKEN. HF_ENDPOINT names another hub.",
    )
    pushing.add_argument("folder", type=Path, metavar="DIR", help="the model/ folder of a run")
    pushing.add_argument("repo_id", metavar="user/name", help="where it goes; made when it is new")
    pushing.add_argument(
        "--visibility",
        choices=("auto", "private", "public"),
        default="auto",
        help="of a new repository (default: private, unless the model was trained on drawn pedestrians only)",
    )
    pushing.add_argument("--dry-run", action="store_true", help="list files and sizes, upload nothing")

    checking = commands.add_parser(
        "check-submission",
        help="check classification_test.csv and reid_test.txt before handing them in",
        description="Check files to be handed in: header, value ranges, colors, duplicates, missing and "
        "unknown names, line endings. Each problem is printed as FILE:LINE: MESSAGE. Exit code 0: fine, "
        "1: problems, 2: misuse.",
    )
    checking.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="either file; which one it is shows in its content",
    )
    checking.add_argument("--test", type=Path, metavar="DIR", help="the test images, to find missing and unknown names")
    checking.add_argument("--queries", type=Path, metavar="DIR", help="the query images, likewise")
    checking.add_argument(
        "--length",
        type=_positive,
        default=DEFAULT_LENGTH,
        metavar="N",
        help="names per query (default: %(default)s, or all test images where there are fewer)",
    )
    return parser


def _push(options: argparse.Namespace) -> int:
    plan = push(options.folder, options.repo_id, visibility=options.visibility, dry_run=options.dry_run)
    print("\n".join(plan.lines()))
    return FINE


def _check_submission(options: argparse.Namespace) -> int:
    test_names = _names(options.test)
    query_names = _names(options.queries)
    code = FINE
    for path in options.files:
        kind = submission_kind(path)
        if kind == "classification":
            problems = check_classification(path, test_names)
        else:
            problems = check_rank_lists(path, test_names, query_names, options.length)
        for line in report_lines(path, problems):
            print(line)
        if problems:
            code = PROBLEMS
        else:
            print(f"{path}: a {kind} file without problems{_unchecked(kind, test_names, query_names)}")
    return code


def report_lines(path: Path, problems: Sequence[Problem]) -> list[str]:
    """Problems as `file:line: message`, the form that editors and CI systems turn into links."""
    return [f"{path}:{problem.line}: {problem.message}" for problem in problems]


def _names(folder: Path | None) -> list[str] | None:
    return None if folder is None else [path.name for path in list_images(folder)]


def _unchecked(kind: str, test_names: list[str] | None, query_names: list[str] | None) -> str:
    wanted = ["--test"] if test_names is None else []
    wanted += ["--queries"] if kind == "rank lists" and query_names is None else []
    return f"; give {' and '.join(wanted)} to compare the names too" if wanted else ""


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, got {text!r}")
    return number
