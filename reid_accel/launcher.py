"""Starting a script on several processes with accelerate's launcher, from within Python.

Unlike `accelerate launch`, it prints no traceback of its own when a script fails, and exits with the script's code.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from accelerate.commands.launch import launch_command, launch_command_parser
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def launch(script: str, arguments: Sequence[str], processes: int, launch_file: Path | None) -> None:
    """Run reid_accel.SCRIPT on several processes; exits with its code if it fails."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    words = launcher_arguments(processes, launch_file)
    try:
        launch_command(launch_command_parser().parse_args([*words, "-m", f"reid_accel.{script}", *arguments]))
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        sys.exit(code if code > 0 else 128 - code)  # negative: the signal that ended it


def launcher_arguments(processes: int, launch_file: Path | None) -> list[str]:
    """Arguments for a launch file, else for this machine's GPUs, or its CPU if there are none."""
    words = ["--quiet"]
    if launch_file is not None:
        words += ["--config_file", str(launch_file)]
    else:
        words += ["--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        words += ["--main_process_port", "0"]
    return [*words, "--num_processes", str(processes)] if processes > 1 else words
