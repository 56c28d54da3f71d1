from pathlib import Path

import numpy as np
import pytest
import scipy.io

from reid_accel.attributes.annotations import read_course_csv, read_market_mat, write_course_csv, write_market_mat
from reid_accel.attributes.vocabulary import MARKET_COLUMNS, MARKET_GROUPS
from reid_accel.errors import InputError


def random_people(seed: int, pids: list[int]) -> dict[int, tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    return {pid: tuple(int(rng.integers(len(group.values))) for group in MARKET_GROUPS) for pid in pids}


def test_mat_is_read_by_field_name_whatever_their_order(tmp_path: Path) -> None:
    train, test = random_people(0, [2, 7, 1500]), random_people(1, [1, 3])
    write_market_mat(tmp_path / "market_attribute.mat", train, test)
    assert read_market_mat(tmp_path / "market_attribute.mat") == {"train": train, "test": test}

    content = scipy.io.loadmat(tmp_path / "market_attribute.mat", squeeze_me=True)["market_attribute"]
    halves = dict(zip(content.dtype.names, content.item(), strict=True))
    reversed_train = {name: halves["train"][name].item() for name in reversed(halves["train"].dtype.names)}
    plain_test = {name: halves["test"][name].item() for name in halves["test"].dtype.names}
    shuffled = {"market_attribute": {"test": plain_test, "train": reversed_train}}
    scipy.io.savemat(tmp_path / "shuffled.mat", shuffled)
    assert read_market_mat(tmp_path / "shuffled.mat") == {"train": train, "test": test}


def test_one_person_per_half_is_enough(tmp_path: Path) -> None:
    people = random_people(2, [5])
    write_market_mat(tmp_path / "one.mat", people, people)
    assert read_market_mat(tmp_path / "one.mat")["test"] == people


def test_real_annotation_has_the_published_numbers(shared_data: Path) -> None:
    halves = read_market_mat(shared_data / "market1501" / "market_attribute.mat")
    counts = {
        half: (
            len(people),
            sum(p[-2] == 0 for p in people.values()),
            sum(p[-1] == 0 for p in people.values()),
        )
        for half, people in halves.items()
    }
    assert counts == {"train": (751, 78, 30), "test": (750, 69, 44)}


@pytest.mark.parametrize("content", [b"", b"no MATLAB file at all", b"\x00" * 200])
def test_a_file_that_is_no_mat_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.mat").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.mat"):
        read_market_mat(tmp_path / "bad.mat")


def test_another_mat_is_refused(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "other.mat", {"duke_attribute": np.zeros(3)})
    with pytest.raises(InputError, match="market_attribute"):
        read_market_mat(tmp_path / "other.mat")


def test_csv_round_trip(tmp_path: Path) -> None:
    people = random_people(3, [2, 7, 10, 1500])
    write_course_csv(tmp_path / "a.csv", people)
    assert read_course_csv(tmp_path / "a.csv") == people


def test_csv_of_a_spreadsheet_is_read_too(tmp_path: Path) -> None:
    people = random_people(4, [2, 7])
    write_course_csv(tmp_path / "a.csv", people)
    text = (tmp_path / "a.csv").read_text(encoding="utf-8")
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_course_csv(tmp_path / "b.csv") == people


HEADER = ",".join(("id", *MARKET_COLUMNS))
ONES = ",".join(["1"] * 27)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (HEADER.replace(",hair", "") + "\n", "missing: hair"),
        (HEADER + ",shoes\n", "unexpected: shoes"),
        (f"{HEADER}\n5,9{ONES[1:]}\n", "row 2: attribute age must be between 1 and 4, got 9"),
        (f"{HEADER}\n5,{ONES}\n5,{ONES}\n", "row 3: person 5 is listed twice"),
        (f"{HEADER}\nfive,{ONES}\n", "row 2"),
        (f"{HEADER}\n5,{ONES},1\n", "row 2: expected 28 fields, got 29"),
        (f"{HEADER}\n\n5,{ONES}\n\n6,{ONES},1\n", "row 5: expected 28 fields, got 29"),
        (f"{HEADER}\n1_0,{ONES}\n", "row 2: '1_0' is not a whole number"),
        (f"{HEADER}\n٣,{ONES}\n", "row 2: '٣' is not a whole number"),
        (f"{HEADER}\n{'9' * 25},{ONES}\n", r"row 2: the number 9{25} is too large \(64 bits\)"),
        (f"{HEADER}\n5,1.0{ONES[1:]}\n", "row 2: '1.0' is not a whole number"),
        (f"{HEADER},age\n", "more than once: age"),
    ],
)
def test_broken_csv_is_refused_with_the_row(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_course_csv(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "text",
    [
        ",".join(f"column{number}" for number in range(10**6)),
        ",".join(["id"] * 10**6),
        f"{HEADER},{'x' * 100_000}\n",
        f"{HEADER}\n{',' * 10**6}\n",
        f"{HEADER}\n{'x' * 100_000},{ONES}\n",
        f"{HEADER}\n{'9' * 100_000},{ONES}\n",
        f"{HEADER}\n{'x' * 200_000},{ONES}\n",
    ],
    ids=("columns", "equal columns", "a long name", "fields", "a long id", "a long number", "a too long field"),
)
def test_the_sentence_about_a_huge_csv_is_short(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.csv") as info:
        read_course_csv(tmp_path / "a.csv")
    assert len(str(info.value)) < 1000


def test_a_csv_of_another_kind_of_size_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "a.csv", "wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(InputError, match=r"has more than 16 MB; it must have one row per person"):
        read_course_csv(tmp_path / "a.csv")
