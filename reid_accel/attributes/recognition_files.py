"""The annotation files of sets for pedestrian attribute recognition (PAR): images without identities, official splits.

PA-100K (Liu et al., ICCV 2017), PETA (Deng et al., ACM MM 2014), RAP version 1 and 2 (Li et al. 2016; TIP 2019), as
their authors publish them. Every attribute is yes or no. PETA and RAP have five partitions into train, (validation and)
test, of which the literature uses the first.
Legend: N images, A attributes.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reid_accel.attributes.mat_file import MatFile, as_positions, as_rows, as_texts, member, read_mat
from reid_accel.attributes.mat_reader import Limits
from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.errors import listed, shortened

LIMITS = Limits(largest_bytes=512 * 2**20, memory_bytes=3 * 2**30)  # RAP version 2 has 100 MB in full
PETA_META_COLUMNS = 4
PETA_SELECTED = 35
RAP1_SELECTED = 51
UNCERTAIN = 2
"""RAP's annotators couldn't tell; a "no" in the literature's scores."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Annotation:
    """Images with yes/no attributes: N names, N x A of 0 and 1, and the images of each official split.

    num_uncertain: how many labels were neither. edition: the set's version and partition.
    """

    names: tuple[str, ...]
    labels_NA: npt.NDArray[np.int8]
    attributes: tuple[str, ...]
    splits: Mapping[str, Rows]
    num_uncertain: int
    edition: str

    @property
    def groups(self) -> tuple[AttributeGroup, ...]:
        """The attributes as groups of two values."""
        return tuple(AttributeGroup(name, ("no", "yes")) for name in self.attributes)


def read_pa100k(path: Path) -> Annotation:
    """`annotation.mat` of PA-100K: its images are listed by split. Raises InputError for another file."""
    kinds = ("train", "val", "test")
    variables = ("attributes", *(f"{kind}_{what}" for kind in kinds for what in ("images_name", "label")))
    return _parsed(MatFile(path, "PA-100K", variables, limits=LIMITS), _pa100k)


def read_peta(path: Path, partition: int = 1) -> Annotation:
    """`PETA.mat`: the 35 attributes that the literature scores, of 105. Raises InputError for another file."""
    return _parsed(MatFile(path, "PETA", ("peta",), limits=LIMITS), lambda content: _peta(content["peta"], partition))


def read_rap(path: Path, partition: int = 1) -> Annotation:
    """`RAP_annotation.mat` of version 1 (51 of 92 attributes) or 2 (54 of 152). Raises InputError for another file."""
    file = MatFile(path, "RAP", ("RAP_annotation",), limits=LIMITS)
    return _parsed(file, lambda content: _rap(content["RAP_annotation"], partition))


def _parsed(file: MatFile, parse: Callable[[dict[str, Any]], Annotation]) -> Annotation:
    content = read_mat(file)
    try:
        missing = [name for name in file.variables if name not in content]
        if missing:
            raise ValueError(f"it lacks the variables {listed(missing)}")
        annotation = parse(content)
        _check(annotation)
    except ValueError as error:
        raise file.refusal(error) from error
    return annotation


def _pa100k(content: Mapping[str, Any]) -> Annotation:
    attributes = _attribute_names(content["attributes"], "attributes")
    names: list[str] = []
    labels, splits = [], {}
    for kind, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        of_split = as_texts(content[f"{kind}_images_name"], f"{kind}_images_name")
        label_NA = as_rows(content[f"{kind}_label"], f"{kind}_label", len(attributes))
        if len(label_NA) != len(of_split):
            raise ValueError(f"{kind}_label has {len(label_NA):,} rows for {len(of_split):,} images")
        splits[split] = np.arange(len(names), len(names) + len(of_split))
        names += of_split
        labels.append(label_NA)
    return _annotation(names, np.concatenate(labels), attributes, splits, "")


def _peta(record: Any, partition: int) -> Annotation:
    """Fields by name, or by the place at which the public codes read them."""
    data = member(record, "peta", ("data",), 0)
    num_columns = data.shape[-1] if isinstance(data, np.ndarray) and data.ndim else 0
    all_names = _names_of_columns(record, "peta", ("attribute", "attributes"), 1, num_columns - PETA_META_COLUMNS)
    label_NA = as_rows(data, "the data", num_columns)[:, PETA_META_COLUMNS:][:, :PETA_SELECTED]
    names = [f"{number:05d}.png" for number in range(1, len(label_NA) + 1)]
    found = _partition(member(record, "peta", ("partion", "partition"), 3), partition)
    splits = _splits(found, len(names), ("train", "validation", "test"))
    return _annotation(names, label_NA, all_names[:PETA_SELECTED], splits, f"partition {partition}")


def _rap(record: Any, partition: int) -> Annotation:
    if isinstance(record, dict) and "partition_attribute" in record:
        return _rap2(record, partition)
    names = as_texts(member(record, "RAP_annotation", ("imagesname",), 5), "imagesname")
    all_names = _attribute_names(member(record, "RAP_annotation", ("attribute_eng",), 3), "attribute_eng")
    label_NA = as_rows(member(record, "RAP_annotation", ("label",), 1), "label", len(all_names))[:, :RAP1_SELECTED]
    found = _partition(member(record, "RAP_annotation", ("partion", "partition"), 0), partition)
    splits = _splits(found, len(names), ("train", "test"))
    return _annotation(names, label_NA, all_names[:RAP1_SELECTED], splits, f"RAPv1, partition {partition}")


def _rap2(record: Mapping[str, Any], partition: int) -> Annotation:
    names = as_texts(member(record, "RAP_annotation", ("name",)), "name")
    all_names = _attribute_names(member(record, "RAP_annotation", ("attribute",)), "attribute")
    label_NA = as_rows(member(record, "RAP_annotation", ("data",)), "data", len(all_names))
    chosen = as_positions(
        member(record, "RAP_annotation", ("selected_attribute",)), "selected_attribute", len(all_names)
    )
    splits = _splits(_partition(record["partition_attribute"], partition), len(names), ("train", "validation", "test"))
    attributes = [all_names[place] for place in chosen]
    return _annotation(names, label_NA[:, chosen], attributes, splits, f"RAPv2, partition {partition}")


def _attribute_names(value: Any, what: str) -> list[str]:
    names = [name.strip() for name in as_texts(value, what)]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if not names or twice or "" in names:
        raise ValueError(f"{what} must be different names, but {listed(twice) or 'one is empty'} is not")
    return names


def _names_of_columns(record: Any, what: str, names: Sequence[str], place: int, number: int) -> list[str]:
    """The names of so many columns: the first column of a cell, whose further ones may hold translations."""
    texts = as_texts(member(record, what, names, place), "the names of attributes")
    step = len(texts) // number if number > 0 and len(texts) % number == 0 else 1
    found = _attribute_names(texts[:: max(step, 1)], "the names of attributes")
    if len(found) != number:
        raise ValueError(f"{what} has {len(found)} names of attributes for {max(number, 0)} columns")
    return found


def _partition(value: Any, number: int) -> Any:
    found = value if isinstance(value, list) else [value]
    if not 1 <= number <= len(found):
        raise ValueError(f"it has {len(found)} partitions, not number {number}: set --data.partition")
    return found[number - 1]


def _splits(record: Any, num_images: int, names: Sequence[str]) -> dict[str, Rows]:
    """The positions of each split, by the names of the fields (train, train_index, ...) or by their order."""
    fields = {"train": "train", "validation": "val", "test": "test"}
    return {
        name: as_positions(
            member(record, "a partition", (fields[name], f"{fields[name]}_index"), place), f"{name}", num_images
        )
        for place, name in enumerate(names)
    }


def _annotation(
    names: Sequence[str], label_NA: np.ndarray, attributes: Sequence[str], splits: Mapping[str, Rows], edition: str
) -> Annotation:
    if len(label_NA) != len(names):
        raise ValueError(f"it has labels of {len(label_NA):,} images, but the names of {len(names):,}")
    wrong = np.argwhere((label_NA < 0) | (label_NA > UNCERTAIN))
    if len(wrong):
        row, column = wrong[0].tolist()
        raise ValueError(
            f"image {shortened(names[row])}: {attributes[column]} must be 0 (no), 1 (yes) or 2 (uncertain), got "
            f"{label_NA[row, column]}"
        )
    yes_NA = (label_NA == 1).astype(np.int8)
    num_uncertain = int((label_NA == UNCERTAIN).sum())
    return Annotation(tuple(names), yes_NA, tuple(attributes), splits, num_uncertain, edition)


def _check(annotation: Annotation) -> None:
    """Raise ValueError unless names are those of files, each listed once, and no image is in two splits."""
    odd = [name for name in annotation.names if not name or "/" in name or "\\" in name or name in (".", "..")]
    if odd:
        raise ValueError(f"{shortened(odd[0])!r} must be the name of an image file, without a folder")
    name, times = Counter(annotation.names).most_common(1)[0] if annotation.names else ("", 0)
    if times > 1:
        raise ValueError(f"the image {shortened(name)} is listed {times} times")
    uses = np.zeros(len(annotation.names), np.int64)
    for split, rows in annotation.splits.items():
        if not len(rows) and split != "validation":
            raise ValueError(f"the split {split} is empty")
        np.add.at(uses, rows, 1)
    if (uses > 1).any():
        name = annotation.names[int(uses.argmax())]
        raise ValueError(f"the image {shortened(name)} is in more than one split, or twice in one")
