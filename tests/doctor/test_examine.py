"""Sets that were broken on purpose, and the set as drawn."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.broken_sets import BREAKS, ERRORS

from reid_accel.doctor.examine import Diagnosis
from reid_accel.doctor.outcome import exit_code

Diagnose = Callable[[Path], Diagnosis]


def test_nothing_is_found_in_the_set_as_drawn(drawn: Path, diagnose: Diagnose) -> None:
    diagnosis = diagnose(drawn)
    assert [finding.sentence for finding in diagnosis.findings] == []
    assert exit_code(diagnosis) == 0


@pytest.mark.parametrize("key", BREAKS)
def test_one_break_is_found_and_nothing_else(clean: Path, diagnose: Diagnose, key: str) -> None:
    broken = BREAKS[key](clean)
    diagnosis = diagnose(clean)
    assert {finding.key for finding in diagnosis.findings} == {key}
    (finding,) = diagnosis.findings
    assert finding.severity == ("error" if key in ERRORS else "warning")
    assert exit_code(diagnosis) == (1 if key in ERRORS else 0)
    assert len(finding.remedy) > 20
    if broken.is_file():
        assert broken.name in {diagnosis.splits[place.split].name_N[place.row] for place in finding.images}


def test_a_split_without_a_readable_image_is_an_error(clean: Path, diagnose: Diagnose) -> None:
    for path in (clean / "query").iterdir():
        path.write_bytes(b"no image")
    (finding,) = diagnose(clean).findings
    assert (finding.key, finding.severity) == ("unreadable", "error")


def test_a_set_without_any_readable_image_is_examined(clean: Path, diagnose: Diagnose) -> None:
    for path in clean.rglob("*.jpg"):
        path.write_bytes(b"")
    diagnosis = diagnose(clean)
    assert [finding.key for finding in diagnosis.findings] == ["unreadable"]
    assert exit_code(diagnosis) == 1


def test_copies_of_one_picture_everywhere_end_in_findings(clean: Path, diagnose: Diagnose) -> None:
    first = next(clean.rglob("*.jpg")).read_bytes()
    for path in clean.rglob("*.jpg"):
        path.write_bytes(first)
    keys = {finding.key for finding in diagnose(clean).findings}
    assert keys == {"copies-in-train-and-test", "copies-in-query-and-gallery"}


def test_all_breaks_at_once_are_all_found(clean: Path, diagnose: Diagnose) -> None:
    for make in BREAKS.values():
        make(clean)
    diagnosis = diagnose(clean)
    assert {finding.key for finding in diagnosis.findings} >= set(BREAKS)
    assert exit_code(diagnosis) == 1
