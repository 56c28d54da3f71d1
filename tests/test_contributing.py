"""The patches of CONTRIBUTING.md apply to the code as it is, and do what they say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
ADDITIONS = re.findall(r"^### (.+?)\n.*?```diff\n(.*?)```\n\n```python\n(.*?)```", TEXT, flags=re.DOTALL | re.MULTILINE)


def run(command: list[str], folder: Path, given: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, env=environment, input=given, capture_output=True, text=True)


def test_all_five_seams_have_a_patch() -> None:
    titles = [title for title, _, _ in ADDITIONS]
    assert titles == ["A loss", "An augmentation", "A neck or a classifier", "A folder layout", "A metric"]


@pytest.mark.parametrize(("title", "patch", "check"), ADDITIONS, ids=[title for title, _, _ in ADDITIONS])
def test_a_patch_applies_and_its_check_passes(title: str, patch: str, check: str, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "reid_accel", tmp_path / "reid_accel", ignore=ignored)
    control = run([sys.executable, "-c", check], tmp_path)
    assert control.returncode != 0, "the check passes without the patch"
    applied = run(["git", "apply", "--unidiff-zero", "-"], tmp_path, patch)
    assert applied.returncode == 0, applied.stderr
    done = run([sys.executable, "-c", check], tmp_path)
    assert done.returncode == 0, done.stderr
