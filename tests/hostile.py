"""Attacks on the product: damaged files, flipped bits, kill -9 at file operations, full disks.

    python tests/hostile.py --trials 2000 --flips 20000 --kills 1000 --full-disks 1000 --seed 0

trials: damaged files of every kind that is read (bits, truncation, zeros, noise, garbage, bad names, directories,
FIFOs and links in their places). flips: single bits of the JSON files of a checkpoint, saved features, a crop cache
and a model, each bit at most once. kills and full disks: a run of 15 steps is disturbed at its n-th file operation, for
as many different n as asked, then resumed and compared with the undisturbed run, bit for bit. The same seed attacks the
same places. Prints a table in Markdown; exit code 1 when a column that must be 0 isn't. Needs Linux, not root.

Columns: right, the same result as from the intact file; other content, another valid file in a format without checksum
(pixels, settings, labels); sentence, exit code 2 with a sentence; silent, a wrong result without a word.
"""

import argparse
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
from helpers.attacks import FORBIDDEN, Row, grade, table
from helpers.damage import damage, flip, rename
from helpers.file_operations import FileOperations
from helpers.forked import Ended, in_a_child
from helpers.readable_files import (
    Specimen,
    make_results,
    read_checkpoints,
    read_features,
    read_model,
    specimens,
)
from helpers.tiny_runs import differences, settings

import reid_accel.train as train_script
from reid_accel.errors import InputError
from reid_accel.reporting.console import open_console
from reid_accel.training.checkpoint import read_checkpoint

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
            killed(folder, given.kills, given.seed),
            *full_disks(folder, given.full_disks, given.seed),
        ]
    print(table([row for row in rows if row.grades]))
    sys.exit(1 if any(row.trouble for row in rows) else 0)


# damaged files


def damaged_files(folder: Path, trials: int, seed: int, only: str) -> list[Row]:
    """Damage one file per trial, all kinds in turn."""
    if not trials:
        return []
    attacked = [one for one in specimens(folder) if only in one.kind]
    rows = {one.kind: Row(f"damaged: {one.kind}") for one in attacked}
    right = {number: intact_results(folder, one) for number, one in enumerate(attacked)}
    for trial in range(trials):
        number = trial % len(attacked)
        one, chance = attacked[number], random.Random(f"{seed} {trial}")
        with tempfile.TemporaryDirectory(dir=folder) as name:
            place = shutil.copytree(one.place, Path(name) / one.place.name)
            done = (rename if one.may_be_renamed else damage)(place / one.file, chance)
            end = in_a_child(partial(read_aloud, one, place), folder / "log.txt", seconds=60)
        rows[one.kind].add(grade(end, right[number]), f"trial {trial}, {one.file}: {done}", end.said)
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
                row.add(grade(ending, right), f"{one.file}, bit {bit}", ending.said)


def read_flipped(one: Specimen, place: Path, bits: Sequence[int]) -> list[tuple[int, str, Any]]:
    """Exit code, sentence and result for each bit; any exception but an InputError ends the process."""
    intact, ends = (place / one.file).read_bytes(), []
    for bit in bits:
        content = bytearray(intact)
        flip(content, bit)
        (place / one.file).write_bytes(content)
        try:
            ends.append((0, "", one.read(place)))
        except InputError as error:
            ends.append((2, str(error), None))
    (place / one.file).write_bytes(intact)
    return ends


# kill -9 and full disks


def train(folder: Path, run: Path, operations: FileOperations | None) -> Ended:
    """A run that resumes what is there, disturbed or not; its result is the number of file operations."""

    def work() -> int:
        if operations is not None:
            operations.install()
        train_script.main([*settings(folder, run), "--run.resume=auto"])
        return operations.done if operations is not None else 0

    return in_a_child(work, folder / "log.txt")


def places(folder: Path, kind: str, wanted: int, seed: int) -> list[int]:
    """Numbers of file operations, spread over a run: all, or as many as wanted."""
    if not wanted:
        return []
    run = folder / "counted"
    end = train(folder, run, FileOperations(run, kind))
    assert end.code == 0, end.said
    remove(run)
    numbers = range(1, int(end.result) + 1)
    return sorted(random.Random(f"{seed} {kind}").sample(numbers, min(wanted, len(numbers))))


def killed(folder: Path, wanted: int, seed: int) -> Row:
    """kill -9 in the n-th file operation, sometimes again while resuming; then the run must end as if nothing was."""
    row = Row("kill -9 at a file operation", forbidden=(*FORBIDDEN, "sentence"))
    for number in places(folder, "kill", wanted, seed):
        run, chance, where = folder / "run", random.Random(f"{seed} {number}"), [number]
        end = train(folder, run, FileOperations(run, "kill", number))
        while end.code == -9 and chance.random() < 0.25:
            where.append(chance.randrange(1, 60))
            end = train(folder, run, FileOperations(run, "kill", where[-1]))
        row.add(*after_fault(folder, run, end, f"operation {where}"))
        remove(run)
    return row


def full_disks(folder: Path, wanted: int, seed: int) -> list[Row]:
    """No space at the n-th write, for good or only once; then there is space again and the run is resumed."""
    rows = [Row("no space from the n-th write on"), Row("no space at the n-th write only")]
    for kind, row in zip(("full", "full once"), rows, strict=True):
        for number in places(folder, kind, wanted, seed):
            run = folder / "run"
            end = train(folder, run, FileOperations(run, kind, number))
            row.add(*after_fault(folder, run, end, f"write {number}"))
            remove(run)
    return rows


def after_fault(folder: Path, run: Path, end: Ended, where: str) -> tuple[str, str, str]:
    """Grade, description and output of a disturbed run, after it was resumed and has ended."""
    if end.code not in (0, 2, -9) or (end.code == 2 and grade(end, []) != "sentence"):
        return grade(end, []), f"{where}: exit code {end.code}", end.said
    damaged = [error for path in sorted(run.glob("checkpoints/step-*")) if (error := why_damaged(path))]
    resumed = train(folder, run, None)
    if resumed.code != 0:
        return "sentence" if grade(resumed, []) == "sentence" else "trace", f"{where}: cannot go on", resumed.said
    differing = damaged + differences(folder / "whole", run)
    litter = [path.name for path in Path(f"{run}.cache").rglob(".*") if end.code != -9]
    differing += [f"{name} was left in the cache" for name in litter]
    if differing:
        return "silent", f"{where}: {'; '.join(differing)}", end.said
    return "sentence" if end.code == 2 else "right", where, end.said


def why_damaged(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint that has its final name."""
    try:
        read_checkpoint(checkpoint)
    except InputError as error:
        return str(error)
    return None


def remove(run: Path) -> None:
    """Delete a run with its cache."""
    for path in (run, Path(f"{run}.cache")):
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main()
