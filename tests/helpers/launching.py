"""Starting the scripts as a user does, in one process or in two real ones (gloo)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "reid_accel"
ACCELERATE = Path(sys.executable).with_name("accelerate")

TINY = (
    "--model.backbone=test_resnet",
    "--model.no-pretrained",
    "--model.neck=fc",
    "--model.height-px=64",
    "--model.width-px=32",
    "--run.mixed-precision=no",
    "--run.cpu-threads=1",
)
"""A network small enough for tests of everything but accuracy; threads would wait for each other on a busy machine."""


SMALL_RUN = (
    *TINY, "--data.name=market-layout", "--data.validation-share=0.2", "--train.batch-size=8",
    "--train.accumulation-steps=2", "--train.ema-decay=0.9", "--optim.name=adamw", "--run.deterministic",
    "--run.log-every-steps=1",
)  # fmt: skip
"""A run with all that has a state, in which every step is logged."""


def log_of(run: Path) -> list[dict[str, Any]]:
    """What a run logged, but for times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]


def command(script: Path, *arguments: object, processes: int = 1, restarts: int = 0) -> list[str]:
    """`accelerate launch SCRIPT ARGUMENTS`; with several processes by the launch file that users have."""
    launch_words = [str(ACCELERATE), "launch", "--quiet"]
    if processes > 1:
        launch_words += ["--config_file", str(REPOSITORY / "launch" / "cpu_2_processes.yaml")]
        launch_words += ["--num_processes", str(processes), "--max_restarts", str(restarts)]
    return [*launch_words, str(script), *(str(argument) for argument in arguments)]


def environment(cache: Path, processes: int = 1) -> dict[str, str]:
    """No network, no GPU, one thread a process, and a cache of the test's own."""
    names = {
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(cache / "hf"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    unset = ("ACCELERATE_USE_CPU", "WORLD_SIZE", "RANK", "LOCAL_RANK", "HF_TOKEN")
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    return inherited | names


def launch(
    script: Path,
    *arguments: object,
    folder: Path,
    processes: int = 1,
    expect: int | None = 0,
    restarts: int = 0,
) -> subprocess.CompletedProcess[str]:
    """Run a script in `folder` to its end; fails with its output when the exit code isn't the expected one.

    expect None: any code but 0 (a launcher of several processes makes 1 of whatever they return).
    """
    done = subprocess.run(
        command(script, *arguments, processes=processes, restarts=restarts),
        cwd=folder,
        env=environment(folder, processes),
        capture_output=True,
        text=True,
        timeout=300,
    )
    good = done.returncode != 0 if expect is None else done.returncode == expect
    assert good, f"exit code {done.returncode}, expected {expect}\n{done.stdout}\n{done.stderr}"
    return done


def read_json(path: Path) -> Any:
    """A JSON file's content."""
    return json.loads(path.read_text(encoding="utf-8"))
