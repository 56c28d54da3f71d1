"""Starting a script on several processes with accelerate's launcher, from within Python.

Unlike `accelerate launch`, it prints no traceback of its own when a script fails, and exits with the script's code.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from accelerate.commands.launch import launch_command, launch_command_parser
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from reid_accel.config.recipes import launch_file_path
from reid_accel.errors import InputError, first_line


def launch(script: str, arguments: Sequence[str], processes: int, launch_file: Path | None) -> None:
    """Run reid_accel.SCRIPT on several processes; exits with its code if it fails.

    Raises InputError if the launch file can't be used, or the system can't connect processes.
    """
    if sys.platform == "win32" and processes > 1:
        raise InputError("several processes need Linux or macOS: on Windows omit --nproc")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    words = launcher_arguments(processes, launch_file)
    try:
        launch_command(launch_command_parser().parse_args([*words, "-m", f"reid_accel.{script}", *arguments]))
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        sys.exit(code if code > 0 else 128 - code)  # negative: the signal that ended it
    except (ValueError, TypeError, AttributeError, ImportError, OSError) as error:
        raise InputError(f"accelerate cannot start the processes with {words[2]}: {first_line(error)}") from error


def launcher_arguments(processes: int, launch_file: Path | None) -> list[str]:
    """Arguments for a launch file, else for this machine's GPUs, or its CPU if there are none.

    A file is always named: without one, Accelerate takes the answers of the user's `accelerate config`.
    """
    words = ["--quiet", "--config_file", str(launch_file or launch_file_path("cpu_2_processes"))]
    return [*words, "--num_processes", str(processes)] if processes > 1 else words
