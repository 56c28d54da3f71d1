"""Cameras by a regular expression."""

import time

import pytest

from reid_accel.data.forms.camera_pattern import cameras_by_pattern
from reid_accel.errors import InputError


def test_the_group_is_the_camera() -> None:
    paths = ["Anna/1_c3_x.jpg", "Ben/2_c12.jpg"]
    assert cameras_by_pattern(r"_c(\d+)", paths) == dict(zip(paths, ["3", "12"], strict=True))
    assert cameras_by_pattern(r"[()(]|_(?:c)(?P<where>\d)", paths) == dict(zip(paths, ["3", "1"], strict=True))
    assert cameras_by_pattern(r"\(?[^]()]*_c([0-9])", paths) == dict(zip(paths, ["3", "1"], strict=True))


def test_a_pattern_with_a_slash_is_searched_in_the_path_others_in_the_file_name() -> None:
    assert cameras_by_pattern(r"_c(\d)", ["c_c7/a_c1.jpg"]) == {"c_c7/a_c1.jpg": "1"}
    assert cameras_by_pattern(r"_c(\d)/", ["c_c7/a_c1.jpg"]) == {"c_c7/a_c1.jpg": "7"}


def test_an_empty_match_is_an_unknown_camera() -> None:
    assert cameras_by_pattern(r"^[^_]*(?:_c(\d))?", ["a_c1.jpg", "b.jpg"]) == {"a_c1.jpg": "1"}


def test_a_pattern_that_would_take_years_takes_no_time() -> None:
    begun = time.perf_counter()
    with pytest.raises(InputError, match=r"is not found in 50 of 50 images"):
        cameras_by_pattern(r"^(?:a+)+(?:a|aa)+(c)$", [f"{'a' * 250}{number}.jpg" for number in range(50)])
    assert time.perf_counter() - begun < 10


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        (r"_c(\d", "is not a regular expression: missing \\), unterminated"),
        (r"_c\d", "must have one group in parentheses, the camera.*it has 0"),
        (r"(_c)(\d)", "it has 2"),
        (r"(?<=_c)(\d)", "cannot be used"),
        (r"(\d)\1", "cannot be used"),
        (r"x(\d)", r"is not found in 2 of 2 images \(a_c1.jpg, b.jpg\)"),
        ("(a" + "?" * 100_000, "is not a regular expression"),
    ],
)
def test_a_bad_pattern_is_a_sentence(pattern: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as raised:
        cameras_by_pattern(pattern, ["a_c1.jpg", "b.jpg"])
    assert "data.camera-pattern" in str(raised.value)
