"""Miniatures of the sets with attribute annotations, written as their authors' files are laid out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from PIL import Image

from helpers.made_sets import make_market
from reid_accel.attributes.duke import DUKE_COLUMNS

PA100K_ATTRIBUTES = (
    "Female", "AgeOver60", "Age18-60", "AgeLess18", "Front", "Side", "Back", "Hat", "Glasses", "HandBag", "ShoulderBag",
    "Backpack", "HoldObjectsInFront", "ShortSleeve", "LongSleeve", "UpperStride", "UpperLogo", "UpperPlaid",
    "UpperSplice", "LowerStripe", "LowerPattern", "LongCoat", "Trousers", "Shorts", "Skirt&Dress", "boots",
)  # fmt: skip

Save = Callable[[Path, dict[str, Any]], None]


def save_mat5(path: Path, content: dict[str, Any]) -> None:
    """As MATLAB's version 5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, content, oned_as="column")


def save_mat73(path: Path, content: dict[str, Any]) -> None:
    """As MATLAB's version 7.3: HDF5 after a header of 512 bytes, arrays transposed, cells as references."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in content.items():
            _write(file, file, name, value)
    with open(path, "rb+") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(512, b" "))


def _write(file: h5py.File, group: h5py.Group, name: str, value: Any) -> Any:
    if isinstance(value, dict):
        item = group.create_group(name)
        for field, part in value.items():
            _write(file, item, field, part)
        item.attrs["MATLAB_class"] = np.bytes_("struct")
        fields = np.empty(len(value), object)
        fields[:] = [np.array([letter.encode() for letter in field], "S1") for field in value]
        item.attrs.create("MATLAB_fields", fields, dtype=h5py.vlen_dtype(np.dtype("S1")))
        return item
    if isinstance(value, str):
        item = group.create_dataset(name, data=np.array([[ord(letter)] for letter in value], np.uint16))
        kind = "char"
    elif value.dtype == object:
        parts = [
            _write(file, file.require_group("#refs#"), f"{len(file['#refs#'])}" if "#refs#" in file else "0", part)
            for part in value.ravel()
        ]
        item = group.create_dataset(name, (1, len(parts)), dtype=h5py.ref_dtype)
        for place, part in enumerate(parts):
            item[0, place] = part.ref
        kind = "cell"
    else:
        item = group.create_dataset(name, data=np.atleast_2d(value).T)
        kind = "double" if value.dtype.kind == "f" else str(value.dtype)
    item.attrs["MATLAB_class"] = np.bytes_(kind)
    return item


def cell(values: Sequence[Any]) -> np.ndarray:
    """A column of a cell array."""
    made = np.empty((len(values), 1), object)
    made[:, 0] = values
    return made


def draw(folder: Path, names: Sequence[str], labels_NA: np.ndarray) -> None:
    """Small noisy pictures whose top is dark if the first attribute is yes."""
    rng = np.random.default_rng(5)
    folder.mkdir(parents=True, exist_ok=True)
    for name, label_A in zip(names, labels_NA, strict=True):
        pixels = rng.normal(130, 30, (32, 16, 3))
        pixels[:16] -= 90 * (label_A[0] == 1)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name)


def made_labels(number: int, attributes: int, seed: int = 0) -> np.ndarray:
    """Random labels in which every attribute has both values in any few images."""
    label_NA = (np.random.default_rng(seed).random((number, attributes)) < 0.4).astype(np.float64)
    label_NA[::2, 0], label_NA[1::2, 0] = 0, 1
    return label_NA


def make_pa100k(root: Path, *, save: Save = save_mat5, folder: str = "data", **changes: Any) -> Path:
    """24 training, 8 validation and 8 test images."""
    label_NA, names = made_labels(40, 26), [f"{number:06d}.jpg" for number in range(1, 41)]
    draw(root / folder, names, label_NA)
    content = {"attributes": cell(PA100K_ATTRIBUTES)}
    for kind, start, end in (("train", 0, 24), ("val", 24, 32), ("test", 32, 40)):
        content |= {f"{kind}_images_name": cell(names[start:end]), f"{kind}_label": label_NA[start:end]}
    save(root / "annotation.mat", content | changes)
    return root


def make_peta(root: Path, *, save: Save = save_mat5, **changes: Any) -> Path:
    """40 images with 105 attributes, five partitions as PETA.mat has them."""
    label_NA = made_labels(40, 105)
    draw(root / "images", [f"{number:05d}.png" for number in range(1, 41)], label_NA)
    order = [np.random.default_rng(seed).permutation(40)[:, None] + 1.0 for seed in range(5)]
    partitions = [{"train": rows[:20], "val": rows[20:24], "test": rows[24:]} for rows in order]
    content = {
        "data": np.concatenate([np.arange(160.0).reshape(40, 4), label_NA], axis=1),
        "attribute": cell([f"attribute{number:03d}" for number in range(105)]),
        "selected_attribute": np.arange(1.0, 36.0)[None],
        "partion": cell(partitions),
    }
    save(root / "PETA.mat", {"peta": content | changes})
    return root


def make_rap(root: Path, version: int = 1, *, save: Save = save_mat5, **changes: Any) -> Path:
    """40 images of RAP's version 1 (92 attributes) or 2 (152, of which some are numbers), the label 2 among them."""
    label_NA, names = made_labels(40, 92), [f"CAM01-2014-frame{number}-line1.png" for number in range(40)]
    draw(root / "RAP_dataset", names, label_NA)
    label_NA[:3, 0] = 2
    order = [np.random.default_rng(seed).permutation(40)[None] + 1.0 for seed in range(5)]
    if version == 1:
        content = {
            "partion": cell([{"train": rows[:, :30], "test": rows[:, 30:]} for rows in order]),
            "label": label_NA,
            "attribute_chinese": cell([f"属性{number}" for number in range(92)]),
            "attribute_eng": cell([f"attribute{number:03d}" for number in range(92)]),
            "position": np.full((40, 16), 700.0),
            "imagesname": cell(names),
            "attribute_exp": cell([f"short{number:03d}" for number in range(51)]),
        }
    else:
        parts = [
            {"train_index": rows[:, :24], "val_index": rows[:, 24:30], "test_index": rows[:, 30:]} for rows in order
        ]
        content = {
            "name": cell(names),
            "data": np.concatenate([label_NA, np.full((40, 60), 700.0)], axis=1),
            "attribute": cell([f"attribute{number:03d}" for number in range(152)]),
            "selected_attribute": np.arange(1.0, 55.0)[None],
            "partition_attribute": cell(parts).T,
        }
    save(root / "RAP_annotation" / "RAP_annotation.mat", {"RAP_annotation": content | changes})
    return root


def duke_half(pids: Sequence[int], seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A half of duke_attribute.mat."""
    rng = np.random.default_rng(seed)
    columns = {column: np.ones(len(pids)) for column in DUKE_COLUMNS}
    for column in DUKE_COLUMNS[:8]:
        columns[column] = rng.integers(1, 3, len(pids)).astype(float)
    for row in range(len(pids)):
        columns[str(rng.choice([c for c in DUKE_COLUMNS if c.startswith("up")]))][row] = 2
        columns[str(rng.choice([c for c in DUKE_COLUMNS if c.startswith("down")]))][row] = 2
    return columns | {"image_index": cell([f"{pid:04d}" for pid in pids])} | changes


def make_duke(root: Path, *, save: Save = save_mat5, place: str = "duke_attribute.mat", **changes: Any) -> Path:
    """A small set in Market-1501's folders with the annotation of DukeMTMC-reID."""
    make_market(root)
    halves = {"train": duke_half(range(1, 7)), "test": duke_half(range(7, 13), seed=1)}
    save(root / place, {"duke_attribute": halves | changes})
    return root
