"""`doctor.json`, and the exit code."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from reid_accel.config.doctor import DoctorConfig
from reid_accel.doctor.examine import Diagnosis
from reid_accel.doctor.findings import SEVERITIES, Finding, Place
from reid_accel.files import shown
from reid_accel.version import __version__

FORMAT = 1
"""Increased when a field of doctor.json is renamed, removed, or changes its meaning; new fields don't increase it."""
NO_ERRORS, ERRORS = 0, 1
LISTED_IMAGES = 1000


def exit_code(diagnosis: Diagnosis) -> int:
    """1 if something makes scores wrong, else 0."""
    return ERRORS if diagnosis.number("error") else NO_ERRORS


def as_json(diagnosis: Diagnosis, config: DoctorConfig) -> dict[str, Any]:
    """The content of doctor.json."""
    return {
        "format": FORMAT,
        "reid_accel": __version__,
        "data": {"name": config.data.name, "root": config.data.root},
        "model": config.model,
        "exit_code": exit_code(diagnosis),
        "numbers": {severity: diagnosis.number(severity) for severity in SEVERITIES},
        "findings": [_finding(finding, diagnosis) for finding in diagnosis.findings],
        "facts": asdict(diagnosis.facts),
        "advice": [asdict(advice) for advice in diagnosis.advice],
    }


def _finding(finding: Finding, diagnosis: Diagnosis) -> Mapping[str, Any]:
    """A finding; of more than LISTED_IMAGES images only the first are named."""
    images = finding.images
    return {
        "key": finding.key,
        "severity": finding.severity,
        "sentence": finding.sentence,
        "remedy": finding.remedy,
        "num_images": len(images),
        "num_left_out_by_fix": len(set(finding.left_out)),
        "images": [_image(place, diagnosis) for place in images[:LISTED_IMAGES]],
    }


def _image(place: Place, diagnosis: Diagnosis) -> dict[str, Any]:
    images = diagnosis.splits[place.split]
    return {
        "split": place.split,
        "name": shown(images.name_N[place.row]),
        "path": shown(images.path_N[place.row]),
        "person": int(images.pid_N[place.row]),
        "person_name": shown(diagnosis.numbering.name(int(images.pid_N[place.row]))),
        "camera": int(images.camera_N[place.row]),
    }
