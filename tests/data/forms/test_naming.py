"""Numbers for people and cameras with names."""

import pytest

from reid_accel.data.forms.naming import camera_numbers, names_given, numbered, numbers_of, two_spellings
from reid_accel.errors import InputError


def anywhere(name: str) -> str:
    return f"place of {name}"


def test_whole_numbers_keep_their_value_and_names_are_numbered_in_natural_order() -> None:
    assert numbered(["0007", "-1", "0000", "12.0"]) == {"0007": 7, "-1": -1, "0000": 0, "12.0": 12}
    assert numbered(["p10", "p9", "P1", "Anna"]) == {"Anna": 1, "P1": 2, "p9": 3, "p10": 4}
    assert numbered(["b", "a"]) == numbered(["a", "b", "a"]) == {"a": 1, "b": 2}
    assert names_given(numbered(["7", "8"])) == {}
    assert names_given(numbered(["7", "x"])) == {1: "7", 2: "x"}


def test_a_number_of_any_length_is_sorted_by_value() -> None:
    long = "p" + "9" * 5000
    assert list(numbered([long + "1", long, "p3"])) == ["p3", long, long + "1"]
    with pytest.raises(InputError, match=r"person: the number 9+ is too large"):
        numbers_of(["9" * 25], "person", anywhere)


@pytest.mark.parametrize(
    "names", [("Anna", "anna "), ("1", "01"), ("7", "7.0"), ("Zoë", "Zoe\u0308"), ("A  B", "a b"), ("-1", "-01")]
)
def test_two_spellings_of_a_name_are_found(names: tuple[str, str]) -> None:
    assert two_spellings(["x", *names]) == names
    with pytest.raises(InputError, match=r"person seems to be named in two spellings.*place of"):
        numbers_of(names, "person", anywhere)


def test_names_that_are_only_alike_are_different() -> None:
    assert two_spellings(["Anna", "Ann", "1", "10", "-1", "cam1", "cam01", "a.b", "ab"]) is None


@pytest.mark.parametrize(
    "names",
    [
        ["2024-01-05", "2024-01-06"],
        ["05.01.24"],
        ["1/5/2024"],
        ["cam1", "2-Jan"],
        ["Jan-02", "Feb-02"],
        ["20240105", "20240106"],
        ["2024-01-05 10:00:00"],
    ],
)
def test_cameras_that_look_like_dates_are_refused(names: list[str]) -> None:
    with pytest.raises(InputError, match=r"place of .*: the cameras look like dates \(.*\): rename them"):
        camera_numbers(names, anywhere, "rename them")


@pytest.mark.parametrize(
    "names", [["1", "2", "-1"], ["c1", "c2"], ["20240105", "3"], ["12345678"], ["192.168.0.1"], ["3rd floor"], ["1-2"]]
)
def test_other_cameras_are_numbered(names: list[str]) -> None:
    assert sorted(camera_numbers(names, anywhere, "")) == sorted(names)


def test_a_camera_below_minus_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"the camera -2 is below 0"):
        camera_numbers(["1", "-2"], anywhere, "rename it")
