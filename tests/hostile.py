"""Attacks on the product: damaged files, flipped bits, kill -9 at file operations, full disks.

    python tests/hostile.py --trials 2000 --flips 20000 --kills 1000 --full-disks 1000 --seed 0

trials: damaged files of every kind that is read (bits, truncation, zeros, noise, garbage, bad names, directories,
FIFOs and links in their places). flips: single bits of the JSON files of a checkpoint, saved features and a model, each
bit at most once. kills and full disks: a run of 15 steps, and scoring that saves features, are disturbed at their n-th
file operation, for as many different n as asked; then they are done again and compared with undisturbed ones, bit for
bit. The same seed attacks the same places. Prints a table in Markdown; exit code 1 when one of the last five columns
isn't 0. Needs Linux, not root.

Columns: right, the same result as from the intact file; other content, another valid file in a format without checksum
(pixels, settings, labels); sentence, exit code 2 with a sentence, or a warning that the file was changed; silent, a
wrong result without a word; lost, what was there before is gone, or work can't go on.
"""

import argparse
import logging
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true", HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")

import torch
from helpers.attacks import Row, grade, table
from helpers.damage import damage, flip, rename
from helpers.disturbed_work import campaigns, saving_features, training
from helpers.forked import Ended, in_a_child
from helpers.readable_files import (
    Specimen,
    make_results,
    read_checkpoints,
    read_features,
    read_model,
    specimens,
)

from reid_accel.errors import InputError
from reid_accel.reporting.console import open_console

FLIPS_PER_CHILD = 100


def main(arguments: Sequence[str] | None = None) -> None:
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=60, help="damaged files")
    parser.add_argument("--flips", type=int, default=600, help="flipped bits of JSON files, all if there are fewer")
    parser.add_argument("--kills", type=int, default=3, help="file operations with kill -9, all if there are fewer")
    parser.add_argument("--full-disks", type=int, default=3, help="writes to a full disk, all if there are fewer")
    parser.add_argument("--only", default="", help="damage only files of kinds that contain this word")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name).resolve()
        make_results(folder)
        rows = [
            *damaged_files(folder, given.trials, given.seed, given.only),
            *flipped_bits(folder, given.flips, given.seed),
            *disturbed(folder, given.kills, given.full_disks, given.seed),
        ]
    print(table([row for row in rows if row.grades]))
    sys.exit(1 if any(row.trouble for row in rows) else 0)


def disturbed(folder: Path, kills: int, full_disks: int, seed: int) -> list[Row]:
    """kill -9 and full disks, in training and in scoring."""
    wanted = {"kill": kills, "full": full_disks, "full once": full_disks}
    works = [make(folder) for make in (training, saving_features) if any(wanted.values())]
    return [row for work in works for row in campaigns(folder, work, wanted, seed)]


# damaged files


def damaged_files(folder: Path, trials: int, seed: int, only: str) -> list[Row]:
    """Damage one file per trial, all kinds in turn."""
    if not trials:
        return []
    attacked = [one for one in specimens(folder) if only in one.kind]
    rows = {one.kind: Row(f"damaged: {one.kind}") for one in attacked}
    right = [intact_results(folder, one) for one in attacked[:trials]]
    for trial in range(trials):
        number = trial % len(attacked)
        one, chance = attacked[number], random.Random(f"{seed} {trial}")
        with tempfile.TemporaryDirectory(dir=folder) as name:
            place = shutil.copytree(one.place, Path(name) / one.place.name)
            done = (rename if one.may_be_renamed else damage)(place / one.file, chance)
            end = in_a_child(partial(read_aloud, one, place), folder / "log.txt", seconds=60)
        rows[one.kind].add(grade(end, right[number], one.file), f"trial {trial}, {one.file}: {done}", end.said)
    return list(rows.values())


def read_aloud(one: Specimen, place: Path) -> Any:
    """Read a specimen in a folder, with the product's log printed as its scripts do."""
    open_console(is_main_process=True)
    return one.read(place)


def intact_results(folder: Path, one: Specimen) -> list[Any]:
    """What may be read: the intact file's content, for a run also that of the checkpoint before."""
    results = []
    for older in (False, True) if one.kind == "checkpoint" else (False,):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            place = shutil.copytree(one.place, Path(name) / one.place.name)
            if older:
                shutil.rmtree(max((place / "checkpoints").iterdir()))
            end = in_a_child(partial(read_aloud, one, place), folder / "log.txt")
        assert end.code == 0, f"{one}: {end.said}"
        results.append(end.result)
    return results


# flipped bits


def flipped_bits(folder: Path, flips: int, seed: int) -> list[Row]:
    """Flip single bits of the JSON files, spread evenly over the files."""
    newest = max((folder / "whole/checkpoints").iterdir())
    files = [
        ("checkpoint", folder / "whole", newest / "progress.json", read_checkpoints),
        *(("saved features", folder / "features", folder / "features" / f"{name}.json", read_features)
          for name in ("about", "query", "gallery")),
        ("saved model", folder / "whole/model", folder / "whole/model/config.json", read_model),
    ]  # fmt: skip
    rows = []
    for kind, place, file, read in files:
        bits = list(range(8 * file.stat().st_size))
        random.Random(f"{seed} {file.name}").shuffle(bits)
        row = Row(f"flipped: {kind}, {file.name}")
        one = Specimen(kind, place, str(file.relative_to(place)), read)
        flip_in_turn(folder, one, bits[: flips // len(files)], row)
        rows.append(row)
    return rows


def flip_in_turn(folder: Path, one: Specimen, bits: Sequence[int], row: Row) -> None:
    """Flip each bit alone; many in one child, and fewer where that child doesn't come through."""
    if not bits:
        return
    right = intact_results(folder, one)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = shutil.copytree(one.place, Path(name) / one.place.name)
        batches = [bits[start : start + FLIPS_PER_CHILD] for start in range(0, len(bits), FLIPS_PER_CHILD)]
        while batches:
            batch = batches.pop()
            (place / one.file).write_bytes((one.place / one.file).read_bytes())
            end = in_a_child(partial(read_flipped, one, place, batch), folder / "log.txt", seconds=120)
            results = end.result if end.code == 0 else None
            if results is None and len(batch) > 1:
                batches += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
                continue
            for bit, result in zip(batch, results or [end], strict=True):
                ending = result if isinstance(result, Ended) else Ended(*result)
                row.add(grade(ending, right, one.file), f"{one.file}, bit {bit}", ending.said)


class Warnings(logging.Handler):
    """Collects the warnings that the package logs meanwhile."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    def __enter__(self) -> "Warnings":
        logging.getLogger("reid_accel").handlers = [self]
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("reid_accel").handlers = []


def read_flipped(one: Specimen, place: Path, bits: Sequence[int]) -> list[tuple[int, str, Any]]:
    """Exit code, sentence or warnings, and result for each bit; exceptions but InputErrors end the process."""
    intact, ends = (place / one.file).read_bytes(), []
    for bit in bits:
        content = bytearray(intact)
        flip(content, bit)
        (place / one.file).write_bytes(content)
        try:
            with Warnings() as warnings:
                result = one.read(place)
            ends.append((0, "\n".join(warnings.messages), result))
        except InputError as error:
            ends.append((2, str(error), None))
    (place / one.file).write_bytes(intact)
    return ends


if __name__ == "__main__":
    main()
