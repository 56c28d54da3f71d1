"""The files to hand in: what the writers write; the validator finds every flaw and never falls over."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_accel.attributes.vocabulary import MARKET_GROUPS, class_indices
from reid_accel.course.submission import (
    Problem,
    check_classification,
    check_rank_lists,
    submission_kind,
    write_classification,
    write_rank_lists,
)
from reid_accel.errors import InputError

HEADER_OF_THE_COURSE = (
    "id,age,backpack,bag,handbag,clothes,down,up,hair,hat,gender,"
    "upblack,upwhite,upred,uppurple,upyellow,upgray,upblue,upgreen,"
    "downblack,downwhite,downpink,downpurple,downyellow,downgray,downblue,downgreen,downbrown"
)
NAMES = [f"{number:06d}.jpg" for number in range(6)]
QUERIES = ["q0.jpg", "q1.jpg", "q2.jpg"]


def _indices(num_rows: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    columns = [rng.integers(0, len(group.values), num_rows) for group in MARKET_GROUPS]
    return np.stack(columns, axis=1)


@pytest.fixture
def classification(tmp_path: Path) -> Path:
    path = tmp_path / "classification_test.csv"
    write_classification(path, NAMES, _indices(len(NAMES)))
    return path


@pytest.fixture
def rank_lists(tmp_path: Path) -> Path:
    path = tmp_path / "reid_test.txt"
    write_rank_lists(path, QUERIES, [NAMES[:4], NAMES[1:5], NAMES[2:]])
    return path


# --- writing


def test_a_row_reads_as_the_course_describes_it(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    adult_woman_in_red_and_brown = [2, 0, 1, 0, 1, 0, 1, 1, 0, 1, 3, 9]
    write_classification(path, ["016903.jpg"], np.array([adult_woman_in_red_and_brown]))
    assert path.read_bytes() == (
        HEADER_OF_THE_COURSE + "\n016903.jpg,3,1,2,1,2,1,2,2,1,2,1,1,2,1,1,1,1,1,1,1,1,1,1,1,1,1,2\n"
    ).encode("ascii")


def test_multicolor_is_all_ones_or_a_two_in_columns_of_its_own(tmp_path: Path) -> None:
    indices = np.array([[0] * 12])
    write_classification(tmp_path / "28.csv", ["a.jpg"], indices)
    write_classification(tmp_path / "30.csv", ["a.jpg"], indices, multicolor_columns=True)
    assert (tmp_path / "28.csv").read_text().splitlines()[1] == "a.jpg," + ",".join(["1"] * 27)
    header, row = (line.split(",") for line in (tmp_path / "30.csv").read_text().splitlines())
    assert header[header.index("upgreen") + 1] == "upmulticolor"
    assert header[-2:] == ["downbrown", "downmulticolor"]
    assert [column for column, value in zip(header, row, strict=True) if value == "2"] == [
        "upmulticolor",
        "downmulticolor",
    ]


@pytest.mark.parametrize("multicolor_columns", [False, True])
def test_what_was_written_reads_back_as_the_same_attributes(tmp_path: Path, multicolor_columns: bool) -> None:
    names, indices = [f"{number}.jpg" for number in range(200)], _indices(200, seed=1)
    path = tmp_path / "c.csv"
    write_classification(path, names, indices, multicolor_columns)
    header, *rows = (line.split(",") for line in path.read_text().splitlines())
    read = [class_indices({c: int(v) for c, v in zip(header[1:], row[1:], strict=True)}) for row in rows]
    assert np.array_equal(np.array(read), indices)
    assert [row[0] for row in rows] == names
    assert check_classification(path, names) == []


def test_rank_lists_are_one_line_per_query(rank_lists: Path) -> None:
    assert rank_lists.read_bytes().splitlines(keepends=True)[1] == (
        b"q1.jpg: 000001.jpg, 000002.jpg, 000003.jpg, 000004.jpg\n"
    )
    assert check_rank_lists(rank_lists, NAMES, QUERIES, length=4) == []


@pytest.mark.parametrize("name", ["a,b.jpg", "a:b.jpg", " a.jpg", "a\n.jpg", 'a".jpg', "", "x\udcff.jpg", "a"])
def test_names_that_the_files_cannot_hold_are_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        write_classification(tmp_path / "c.csv", [name], _indices(1))
    with pytest.raises(InputError):
        write_rank_lists(tmp_path / "r.txt", ["q.jpg"], [[name]])
    assert list(tmp_path.iterdir()) == []


def test_double_names_unknown_attributes_and_empty_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than once"):
        write_classification(tmp_path / "c.csv", ["a.jpg", "a.jpg"], _indices(2))
    with pytest.raises(InputError, match="between 0 and"):
        write_classification(tmp_path / "c.csv", ["a.jpg"], np.full((1, 12), -1))
    with pytest.raises(InputError, match="more than once"):
        write_rank_lists(tmp_path / "r.txt", ["q.jpg"], [["a.jpg", "a.jpg"]])
    with pytest.raises(InputError, match="empty"):
        write_rank_lists(tmp_path / "r.txt", ["q.jpg"], [[]])


# --- finding flaws


def _edit(path: Path, old: str, new: str, times: int = 1) -> Path:
    content = path.read_bytes().decode()
    assert old in content
    path.write_bytes(content.replace(old, new, times).encode())
    return path


def _assert_found(problems: list[Problem], line: int, words: str) -> None:
    found = [problem for problem in problems if problem.line == line and words in problem.message]
    assert found, f"expected {words!r} on line {line}, got {problems}"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("id,age", "id,agee", 1, "missing columns age"),
        ("id,age", "id,agee", 1, "unknown columns 'agee'"),
        ("age,backpack", "backpack,age", 1, "wrong column order"),
        ("id,age", "id,age,age", 1, "duplicate columns"),
        ("id,age", "\ufeffid,age", 1, "byte order mark"),
        ("000002.jpg,", "000001.jpg,", 4, "'000001.jpg' is also on line 3"),
        ("000002.jpg,", "000001.jpg,", 7, "1 test image is missing: 000002.jpg"),
        ("000002.jpg,", "2,", 4, "not the file name of an image"),
        ("000002.jpg,", "test/000002.jpg,", 4, "without a folder"),
        ("000002.jpg,", "999999.jpg,", 4, "unknown test image '999999.jpg'"),
        ("000002.jpg,", "000002.jpg ,", 4, "whitespace around the file name"),
        ("000002.jpg,", "000002.jpg,1,", 4, "29 fields, the header has 28"),
        ("000002.jpg,", "000002.jpg,5", 4, "age must be an integer from 1 to 4"),
        ("000002.jpg,", "000002.jpg, ", 4, "whitespace around the value"),
        ("000002.jpg,", "000002.jpg,²", 4, "age must be"),
        ("\n000002", "\n\n000002", 4, "the line is empty"),
        ("\n000002", "\r\n000002", 3, "CR LF"),
        ("\n", "\r\n", 1, "CR LF, LF alone is expected"),
        ("000002.jpg,", '"000002.jpg",', 4, "quotation mark"),
    ],
)
def test_a_flaw_in_the_classification_is_found_on_its_line(
    classification: Path, old: str, new: str, line: int, words: str
) -> None:
    assert check_classification(classification, NAMES) == []
    _assert_found(check_classification(_edit(classification, old, new), NAMES), line, words)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("q1.jpg: ", "q1.jpg ", 2, "no `query.jpg: `"),
        ("q1.jpg: ", "q1.jpg:", 2, "one space"),
        ("q1.jpg: ", "q1.jpg:  ", 2, "one space"),
        ("q1.jpg: ", "q0.jpg: ", 2, "'q0.jpg' is also on line 1"),
        ("q1.jpg: ", "q0.jpg: ", 3, "1 query is missing: q1.jpg"),
        ("q1.jpg: ", "q7.jpg: ", 2, "unknown query"),
        ("q1.jpg: 000001.jpg", "q1.jpg: 000002.jpg", 2, "more than once in the list: '000002.jpg'"),
        ("q1.jpg: 000001.jpg", "q1.jpg: 0001.jpg", 2, "not a test image: '0001.jpg'"),
        ("q1.jpg: 000001.jpg, ", "q1.jpg: ", 2, "3 names in the list, expected 4"),
        ("q1.jpg: 000001.jpg, ", "q1.jpg: 000001.jpg,", 2, "one space"),
        ("q1.jpg: 000001.jpg, ", "q1.jpg: 000001.jpg ,", 2, "one space"),
        ("q1.jpg: 000001.jpg, ", "q1.jpg: , ", 2, "a file name is missing"),
        ("\nq1", "\n\nq1", 2, "the line is empty"),
        ("\n", "\r\n", 1, "CR LF"),
        ("\nq1", " \nq1", 1, "one space"),
    ],
)
def test_a_flaw_in_the_rank_lists_is_found_on_its_line(
    rank_lists: Path, old: str, new: str, line: int, words: str
) -> None:
    problems = check_rank_lists(_edit(rank_lists, old, new), NAMES, QUERIES, length=4)
    _assert_found(problems, line, words)


def test_the_problems_of_a_huge_line_are_few_and_short(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for text in (",".join(["id", *(f"column{number}" for number in range(10**5))]), "id," + "x" * 10**6):
        path.write_text(f"{text}\n0.jpg{',1' * text.count(',')}\n")
        problems = check_classification(path)
        assert 0 < len(problems) < 10
        assert max(len(problem.message) for problem in problems) < 1000
    path.write_text("q.jpg: " + ", ".join(f"a b:{number}" for number in range(10**5)) + "\n")
    problems = check_rank_lists(path)
    assert "99,995 more names of the list are misspelled" in {problem.message for problem in problems}
    assert len(problems) < 10
    path.write_text("q.jpg: " + "x" * 10**6 + "\n")
    assert max(len(problem.message) for problem in check_rank_lists(path)) < 1000


def test_windows_line_endings_are_one_problem_not_one_per_line(rank_lists: Path) -> None:
    _edit(rank_lists, "\n", "\r\n", times=-1)
    assert check_rank_lists(rank_lists, NAMES, QUERIES, length=4) == [
        Problem(1, "the line ends with CR LF, LF alone is expected (and 2 further lines)")
    ]


def test_two_colors_in_one_group_are_found_and_two_groups_with_one_each_are_not(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    write_classification(path, ["a.jpg"], np.array([[0] * 10 + [1, 9]]))
    assert check_classification(path) == []
    cells = path.read_text().splitlines()[1].split(",")
    cells[12] = "2"
    path.write_text(HEADER_OF_THE_COURSE + "\n" + ",".join(cells) + "\n")
    assert check_classification(path) == [Problem(2, "at most one upper color may be 2, got 2: upblack, upwhite")]


def test_thirty_columns_need_one_color_in_each_group(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    write_classification(path, ["a.jpg"], np.zeros((1, 12), int), multicolor_columns=True)
    assert check_classification(path) == []
    path.write_text(path.read_text()[:-2] + "1\n")
    _assert_found(check_classification(path), 2, "no lower color is 2")


def test_an_empty_file_a_missing_final_newline_and_foreign_bytes_are_found(
    classification: Path, rank_lists: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_bytes(b"")
    assert check_classification(empty) == check_rank_lists(empty) == [Problem(1, "the file is empty")]
    classification.write_bytes(classification.read_bytes()[:-1])
    _assert_found(check_classification(classification), 7, "does not end with a line feed")
    rank_lists.write_bytes(rank_lists.read_bytes().replace(b"q2", b"q\xff"))
    _assert_found(check_rank_lists(rank_lists), 3, "not UTF-8")
    classification.write_text(HEADER_OF_THE_COURSE + "\n")
    _assert_found(check_classification(classification), 1, "no row")


def test_lists_may_be_as_short_as_the_test_set(rank_lists: Path) -> None:
    assert check_rank_lists(rank_lists, NAMES[:4] + NAMES[4:], QUERIES, length=50) != []
    write_rank_lists(rank_lists, QUERIES, [NAMES, NAMES[::-1], NAMES])
    assert check_rank_lists(rank_lists, NAMES, QUERIES, length=50) == []


def test_the_kind_is_told_by_content_before_the_name(classification: Path, rank_lists: Path, tmp_path: Path) -> None:
    assert submission_kind(classification) == "classification"
    assert submission_kind(rank_lists) == "rank lists"
    assert submission_kind(rank_lists.rename(tmp_path / "wrong.csv")) == "rank lists"
    assert submission_kind(classification.rename(tmp_path / "wrong.txt")) == "classification"
    (tmp_path / "empty.csv").write_bytes(b"")
    assert submission_kind(tmp_path / "empty.csv") == "classification"
    (tmp_path / "notes.md").write_text("hello")
    with pytest.raises(InputError, match="neither"):
        submission_kind(tmp_path / "notes.md")


# --- anything at all


@given(content=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode())))
@settings(max_examples=200, deadline=None)
def test_no_bytes_whatever_make_the_validator_fall_over(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    for problems in (check_classification(path, NAMES), check_rank_lists(path, NAMES, QUERIES)):
        assert problems
        assert all(problem.line >= 1 and problem.message for problem in problems)


def _is_valid_classification(content: bytes) -> bool:
    """The file format again, as one regular expression and a few counts."""
    row = r"\d{6}\.jpg,[1-4](?:,[12]){26}\n"
    whole = re.fullmatch(rf"{HEADER_OF_THE_COURSE}\n((?:{row})+)", content.decode("latin-1"))
    if whole is None:
        return False
    rows = [line.split(",") for line in whole[1].splitlines()]
    return sorted(cells[0] for cells in rows) == NAMES and all(
        cells[11:19].count("2") < 2 and cells[19:].count("2") < 2 for cells in rows
    )


def _is_valid_rank_lists(content: bytes) -> bool:
    line = r"(?:q\d\.jpg): \d{6}\.jpg(?:, \d{6}\.jpg){3}\n"
    if re.fullmatch(f"(?:{line})+", content.decode("latin-1")) is None:
        return False
    parts = [line.split(": ") for line in content.decode().splitlines()]
    lists = [names.split(", ") for _, names in parts]
    return sorted(query for query, _ in parts) == QUERIES and all(
        len(set(names)) == 4 and set(names) <= set(NAMES) for names in lists
    )


BYTES = st.sampled_from([bytes([value]) for value in b'0123459aj .,:;\r\n\t"\x00\xff\xc3-/'] + [b""])


@given(where=st.floats(0, 1), removed=st.integers(0, 2), inserted=BYTES)
@settings(max_examples=500, deadline=None)
def test_every_small_edit_is_found_unless_the_file_is_still_right(
    tmp_path_factory: pytest.TempPathFactory, where: float, removed: int, inserted: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    write_classification(folder / "good.csv", NAMES, _indices(len(NAMES)))
    write_rank_lists(folder / "good.txt", QUERIES, [NAMES[:4], NAMES[1:5], NAMES[2:]])
    for name in ("good.csv", "good.txt"):
        content = (folder / name).read_bytes()
        start = int(where * len(content))
        edited = folder / f"edited-{name}"
        edited.write_bytes(content[:start] + inserted + content[start + removed :])
        if name == "good.csv":
            right, problems = (
                _is_valid_classification(edited.read_bytes()),
                check_classification(edited, NAMES),
            )
        else:
            right = _is_valid_rank_lists(edited.read_bytes())
            problems = check_rank_lists(edited, NAMES, QUERIES, length=4)
        assert (problems == []) == right, (edited.read_bytes(), problems)
