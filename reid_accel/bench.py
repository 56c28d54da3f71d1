"""Script: figures on this machine.

python -m reid_accel.bench retrieval --quick
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reid_accel.benchmarks import retrieval
from reid_accel.errors import InputError


def build_parser() -> argparse.ArgumentParser:
    """One subcommand per benchmark; each sets `run`, a function of the parsed arguments."""
    parser = argparse.ArgumentParser(prog="python -m reid_accel.bench", description="Figures on this machine.")
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK")
    _add_retrieval(commands)
    return parser


def _add_retrieval(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("retrieval", help="scoring and re-ranking against the straightforward way")
    command.add_argument("--quick", action="store_true", help="small sizes, a few seconds")
    command.add_argument("--device", default="cpu", help="where the features are: cpu, cuda (default: %(default)s)")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    command.set_defaults(run=lambda given: retrieval.run(quick=given.quick, device=given.device, json_path=given.json))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; 0, or 1 with a sentence when it cannot run."""
    given = build_parser().parse_args(arguments)
    try:
        given.run(given)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
