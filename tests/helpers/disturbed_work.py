"""Work that is disturbed at its n-th file operation, done again, and compared with undisturbed work."""

import random
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import reid_accel.score as score_script
import reid_accel.train as train_script
from helpers.attacks import Row, gist, grade
from helpers.file_operations import FileOperations
from helpers.forked import Ended, in_a_child
from helpers.launching import read_json
from helpers.readable_files import read_features, scoring
from helpers.tiny_runs import differences, settings
from reid_accel.errors import InputError
from reid_accel.training.checkpoint import read_checkpoint

FAULTS = {
    "kill": "kill -9 at a file operation",
    "full": "no space from a write on",
    "full once": "no space for one write",
}


@dataclass(frozen=True)
class Work:
    """Something that writes files below `root`, a path's beginning. earlier: puts there what was there before. again:
    what a user does after a fault."""

    name: str
    root: Path
    earlier: Callable[[], None]
    do: Callable[[], None]
    again: Callable[[], None]
    damaged: Callable[[Ended], list[str]]
    """What isn't as it must be right after a fault, from how the work ended."""
    differences: Callable[[], list[str]]
    """In what the outcome isn't that of undisturbed work."""


def training(folder: Path) -> Work:
    """A run of 15 steps that resumes what is there."""
    run = folder / "disturbed-run"

    def damaged(_: Ended) -> list[str]:
        return [error for path in sorted(run.glob("checkpoints/step-*")) if (error := _why_damaged(path))]

    def differing() -> list[str]:
        litter = [f"{path.name} was left in the cache" for path in Path(f"{run}.cache").rglob(".*")]
        return differences(folder / "whole", run) + litter

    flags = [*settings(folder, run), "--run.resume=auto"]
    train = partial(train_script.main, flags)
    return Work("training", run, lambda: None, train, train, damaged, differing)


def _why_damaged(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint that has its final name."""
    try:
        read_checkpoint(checkpoint)
    except InputError as error:
        return str(error)
    return None


def saving_features(folder: Path) -> Work:
    """Scoring that saves features where there are older ones, computed otherwise."""
    root, older = folder / "disturbed-scoring", folder / "older"
    words = scoring(folder, root / "features")
    do, again = (partial(score_script.main, [*words, f"--dir={root / name}"]) for name in ("scored", "again"))
    end = in_a_child(
        partial(score_script.main, [*scoring(folder, older), f"--dir={folder / 'older-scored'}", "--score.flip"]),
        folder / "log.txt",
    )
    assert end.code == 0, end.said
    features = [in_a_child(partial(read_features, place), folder / "log.txt") for place in (folder / "features", older)]
    assert features[0].result != features[1].result

    def read() -> Ended:
        return in_a_child(partial(read_features, root / "features"), folder / "log.txt")

    def damaged(end: Ended) -> list[str]:
        found = read()
        if end.code == -signal.SIGKILL and grade(found, []) == "sentence":
            return []  # killed while the files took their names
        return [] if found.result in [one.result for one in features] else [f"no features are left: {gist(found.said)}"]

    def differing() -> list[str]:
        last = "again" if (root / "again").exists() else "scored"
        reports = [read_json(place / "report.json")["retrieval"] for place in (root / last, folder / "scored")]
        found = [] if read().result == features[0].result else ["the features differ"]
        found += [] if reports[0] == reports[1] else ["the scores differ"]
        return found + [f"{path.name} was left behind" for path in (root / "features").glob(".*")]

    def earlier() -> None:
        shutil.copytree(older, root / "features")

    return Work("saving features", root, earlier, do, again, damaged, differing)


def campaigns(folder: Path, work: Work, wanted: Mapping[str, int], seed: int) -> list[Row]:
    """Disturb work at as many different file operations as wanted of each kind of fault, or at all of them."""
    whole = _disturbed(folder, work, "none", 0)
    assert whole.code == 0, whole.said
    _clear(work)
    rows = []
    for kind, number in wanted.items():
        numbers = range(1, int(whole.result["all" if kind == "kill" else "needing space"]) + 1)
        places = sorted(random.Random(f"{seed} {kind}").sample(numbers, min(number, len(numbers))))
        row = Row(f"{work.name}: {FAULTS[kind]} (of {len(numbers)})")
        for place in places:
            row.add(*_trial(folder, work, kind, place, random.Random(f"{seed} {place}")))
        rows.append(row)
    return rows


def _trial(folder: Path, work: Work, kind: str, place: int, chance: random.Random) -> tuple[str, str, str]:
    """Disturb work at a file operation, and kills sometimes again while it goes on."""
    places = [place]
    work.earlier()
    end = _disturbed(folder, work, kind, place)
    while end.code == -signal.SIGKILL and chance.random() < 0.25:
        places.append(chance.randrange(1, 60))
        end = _disturbed(folder, work, kind, places[-1])
    outcome = _outcome(folder, work, end, f"operations {places}")
    _clear(work)
    return outcome


def _disturbed(folder: Path, work: Work, kind: str, number: int) -> Ended:
    """The work in a child, with a fault at an operation, or none; its result is the number of operations."""
    operations = FileOperations(work.root, kind, number)

    def do() -> dict[str, int]:
        operations.install()
        work.do()
        return operations.done

    return in_a_child(do, folder / "log.txt")


def _outcome(folder: Path, work: Work, end: Ended, where: str) -> tuple[str, str, str]:
    """Grade, description and output of disturbed work, after it was done again."""
    expected = (0, 2, -signal.SIGKILL)
    if end.code not in expected or (end.code == 2 and grade(end, []) != "sentence"):
        return grade(end, []), f"{where}: exit code {end.code}", end.said
    if damaged := work.damaged(end):
        return "lost", f"{where}: {'; '.join(damaged)}", end.said
    again = in_a_child(work.again, folder / "log.txt")
    if again.code != 0:
        return "lost", f"{where}: it cannot go on, exit code {again.code}", again.said
    if differing := work.differences():
        return "silent", f"{where}: {'; '.join(differing)}", end.said
    return "sentence" if end.code == 2 else "right", where, end.said


def _clear(work: Work) -> None:
    for path in work.root.parent.glob(f"{work.root.name}*"):
        shutil.rmtree(path)
