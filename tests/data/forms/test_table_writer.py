"""Data sets written as tables and read back."""

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.made_sets import make_market
from helpers.relaid import content_fingerprint

from reid_accel.attributes.annotations import write_market_mat
from reid_accel.attributes.vocabulary import MARKET_GROUPS, AttributeGroup
from reid_accel.cli import main
from reid_accel.config.parse import parse
from reid_accel.config.schema import Config, DataConfig
from reid_accel.data.forms.table_writer import write_table
from reid_accel.data.listing import ImageFile, Listing
from reid_accel.data.reading import read_dataset
from reid_accel.errors import InputError


def read(table: Path, root: Path | None = None) -> Listing:
    table_and_root = {"root": str(table)} if root is None else {"table": str(table), "root": str(root)}
    return read_dataset(DataConfig(name="table", **table_and_root))  # type: ignore[arg-type]


def test_a_listing_with_everything_comes_back_as_it_was(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    groups = (MARKET_GROUPS[0], AttributeGroup("size", ("small", "large", "huge")), AttributeGroup("b", ("no", "yes")))
    splits = {}
    for split, pids in {"train": range(5), "query": range(5, 8), "gallery": range(-1, 9)}.items():
        images = []
        for pid in pids:
            for number in range(3):
                path = tmp_path / "set" / split / f'{pid}, "ü"\n' / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                values = tuple(int(random.integers(-1, len(group.values))) for group in groups)
                labels = int(random.integers(-1, 3)), values, 100 * pid + number + 500, int(random.integers(-1, 9))
                images.append(ImageFile(path, f"{split}/{pid}/{number}.jpg", pid, *labels))
        splits[split] = tuple(images)
    write_table(tmp_path / "set" / "table.csv", splits, groups)
    again = read(tmp_path / "set" / "table.csv")
    assert again.splits == splits
    assert again.groups == groups
    write_table(tmp_path / "elsewhere.tsv", again.splits, again.groups)
    assert read(tmp_path / "elsewhere.tsv", tmp_path / "set").splits == splits


def test_names_of_people_are_written_if_they_give_the_same_numbers(tmp_path: Path) -> None:
    images = tuple(ImageFile(tmp_path / f"{pid}.jpg", f"{pid}.jpg", pid, -1) for pid in (1, 2, 3))
    names = {1: "Ann", 2: "Ben", 3: "Zoe"}
    write_table(tmp_path / "a.csv", {"train": images}, (), names)
    assert "1.jpg,Ann,," in (tmp_path / "a.csv").read_text()
    for fewer, people in ((images[1:], names), (images, {1: "Zoe", 2: "Ben", 3: "Ann"}), (images, {1: "Ann"})):
        write_table(tmp_path / "a.csv", {"train": fewer}, (), people)
        assert "2.jpg,2,," in (tmp_path / "a.csv").read_text()


def test_what_no_table_can_hold_is_a_sentence(tmp_path: Path) -> None:
    image = ImageFile(tmp_path / "a\udcff.jpg", "a\udcff.jpg", 1, -1)
    with pytest.raises(InputError, match=r"is not UTF-8, which tables need"):
        write_table(tmp_path / "a.csv", {"train": (image,)}, ())
    with pytest.raises(InputError, match=r"is written as .csv or .tsv"):
        write_table(tmp_path / "a.parquet", {"train": (image,)}, ())
    assert list(tmp_path.iterdir()) == []


def split(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main(["split", *map(str, words)])
    return int(str(left.value.code))


def test_the_command_writes_the_split_that_training_uses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for pid in range(6):
        for number in range(4):
            path = tmp_path / "set" / f"person {pid}" / f"cam{number % 2}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    settings = ["--data.split=people:0.6", "--data.split-seed=5"]
    assert split(tmp_path / "set", "--to", tmp_path / "set" / "table.csv", *settings) == 0
    written = capsys.readouterr().out
    asked = read_dataset(DataConfig(name="folders", root=str(tmp_path / "set"), split="people:0.6", split_seed=5))
    again = read(tmp_path / "set" / "table.csv")
    assert content_fingerprint(again) == content_fingerprint(asked)
    assert again.people == asked.people
    assert "train: 16 images of 4 identities" in written
    command = written[written.index("read it with") + len("read it with") :]
    config = parse(Config, shlex.split(command)).data
    assert content_fingerprint(read_dataset(config)) == content_fingerprint(asked)
    assert split(tmp_path / "set", "--to", tmp_path / "set" / "table.csv") == 2
    assert "must be a new file" in capsys.readouterr().err


def test_the_command_writes_the_split_of_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_market(tmp_path / "market")
    values = {pid: tuple(pid % len(group.values) for group in MARKET_GROUPS) for pid in range(1, 13)}
    write_market_mat(root / "market_attribute.mat", values, values)
    given = ["--data.name=market-layout", "--to", str(tmp_path / "split.tsv")]
    assert split(root, *given) == 0
    listing = read_dataset(DataConfig(name="market-layout", root=str(root)))
    again = read(tmp_path / "split.tsv", root)
    assert content_fingerprint(again) == content_fingerprint(listing)
    assert again.groups == MARKET_GROUPS
    changed = replace(listing, splits={**listing.splits, "query": listing.splits["query"][1:]})
    assert content_fingerprint(changed) != content_fingerprint(listing)
    for words, sentence in (
        (["--data.name=course", "--data.root=x", "--to", str(tmp_path / "a.csv")], "there is no folder x"),
        ([str(root), "--data.name=market-layout", "--to", str(tmp_path / "no" / "a.csv")], "in an existing folder"),
        ([str(root), "--data.name=market-layout", "--to", str(tmp_path / "a.txt")], "is written as .csv or .tsv"),
    ):
        assert split(*words) == 2
        assert sentence in capsys.readouterr().err
