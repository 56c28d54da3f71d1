"""The examination of a data set: labels, pictures, copies, and embeddings if there is a model."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reid_accel.data.checks import check_added_listing
from reid_accel.data.dataset import ImageDataset
from reid_accel.data.listing import Listing
from reid_accel.doctor.advice import Advice, advice_on
from reid_accel.doctor.attribute_labels import attribute_findings
from reid_accel.doctor.copies import copy_findings
from reid_accel.doctor.facts import Facts, facts_of
from reid_accel.doctor.findings import Finding, Numbering, Severity, Splits, by_severity
from reid_accel.doctor.looks import look_findings
from reid_accel.doctor.matches import match_findings
from reid_accel.doctor.people import people_findings
from reid_accel.doctor.pictures import Pictures, measure
from reid_accel.doctor.progress import Bar
from reid_accel.doctor.tracklets import tracklet_findings
from reid_accel.errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Diagnosis:
    """What was found in a data set. findings: errors first."""

    splits: Splits
    numbering: Numbering
    findings: tuple[Finding, ...]
    facts: Facts
    advice: tuple[Advice, ...]

    def number(self, severity: Severity) -> int:
        """The number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def examine(listing: Listing, name: str, bar: Bar, embedded: Iterable[Finding] = ()) -> Diagnosis:
    """Examine a data set. embedded: findings on its embeddings. Raises InputError if a split has no images."""
    splits, numbering = labeled(listing, name), Numbering(listing.numbered_apart, listing.people)
    findings = [
        *_of_the_folder(listing),
        *people_findings(splits, numbering),
        *tracklet_findings(splits),
        *match_findings(splits),
        *attribute_findings(splits, numbering),
    ]
    pictures = _measured(splits, bar)
    findings += [*copy_findings(splits, pictures), *look_findings(splits, pictures), *embedded]
    advice = tuple(advice_on(splits, pictures))
    return Diagnosis(splits, numbering, tuple(by_severity(findings)), facts_of(splits, pictures), advice)


def labeled(listing: Listing, name: str) -> dict[str, ImageDataset]:
    """The splits with their labels. Raises InputError if one has no images."""
    for split, images in listing.splits.items():
        if not images:
            raise InputError(f"the split {split} has no images")
    check_added_listing(name, listing)
    return {split: ImageDataset.of_files(images, listing.groups, None) for split, images in listing.splits.items()}


def _measured(splits: Splits, bar: Bar) -> Mapping[str, Pictures]:
    total = sum(map(len, splits.values()))
    logger.info(f"looking at {total:,} images")
    with bar("looking at images", total) as progress:
        return {split: measure(images, progress) for split, images in splits.items()}


def _of_the_folder(listing: Listing) -> list[Finding]:
    """What the layout warns of: other counts than published, missing annotation, files that are left out."""
    remedy = (
        "Correct the folder if this isn't meant; scores are comparable with published ones only on the same images."
    )
    return [Finding("folder", "warning", warning, remedy) for warning in listing.warnings]
