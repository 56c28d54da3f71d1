import json
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from reid_accel.config.strict import from_json, parsed_json
from reid_accel.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Inner:
    name: str
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    list_of: tuple[Inner, ...] = ()
    flag: bool = False
    number: int = 1
    share: float = 0.5
    stride: Literal[1, 2] = 2
    kind: Literal["a", "b"] = "a"
    maybe: str | None = None


RIGHT = {
    "inner": {"name": "i", "sizes": [1, 2]},
    "list_of": [{"name": "l", "sizes": []}],
    "flag": True,
    "number": 3,
    "share": 1,
    "stride": 1,
    "kind": "b",
    "maybe": None,
}


def test_content_of_the_right_types_becomes_the_dataclass() -> None:
    built = from_json(Outer, parsed_json(json.dumps(RIGHT)))
    inner, listed = Inner(name="i", sizes=(1, 2)), Inner(name="l")
    assert built == Outer(inner=inner, list_of=(listed,), flag=True, number=3, share=1.0, stride=1, kind="b")
    assert type(built.share) is float


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"flag": 1}, "flag must be true or false, got 1"),
        ({"flag": None}, "flag must be true or false, got None"),
        ({"number": True}, "number must be a whole number, got True"),
        ({"number": "3"}, "number must be a whole number, got '3'"),
        ({"number": 3.0}, "number must be a whole number, got 3.0"),
        ({"number": [3]}, r"number must be a whole number, got \[3\]"),
        ({"share": "0.5"}, "share must be a finite number, got '0.5'"),
        ({"share": True}, "share must be a finite number, got True"),
        ({"share": float("nan")}, "share must be a finite number, got nan"),
        ({"share": float("inf")}, "share must be a finite number, got inf"),
        ({"share": 10**400}, "share must be a finite number, got inf"),
        ({"stride": True}, r"stride must be one of \(1, 2\), got True"),
        ({"stride": 1.0}, r"stride must be one of \(1, 2\), got 1.0"),
        ({"kind": "c"}, r"kind must be one of \('a', 'b'\), got 'c'"),
        ({"kind": ["a"]}, r"kind must be one of"),
        ({"maybe": 3}, "maybe must be text, got 3"),
        ({"inner": "i"}, "inner must be an object"),
        ({"inner": None}, "inner must be an object"),
        ({"inner": {"name": "i", "sizes": "12"}}, r"inner\.sizes must be a list"),
        ({"inner": {"name": "i", "sizes": [1, True]}}, r"inner\.sizes\[1\] must be a whole number"),
        ({"inner": {"name": 5, "sizes": []}}, r"inner\.name must be text"),
        ({"inner": {"name": "i", "sizes": [], "x": 1}}, r"unknown fields \(inner\.x\)"),
        ({"inner": {"name": "i"}}, r"missing fields \(inner\.sizes\)"),
        ({"list_of": [{"name": "l", "sizes": []}, {}]}, r"missing fields \(list_of\[1\]\.name, list_of\[1\]\.sizes\)"),
        ({"other": 1}, r"unknown fields \(other\)"),
    ],
)
def test_content_of_other_types_is_refused_by_name(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        from_json(Outer, RIGHT | change)


@pytest.mark.parametrize("content", [None, 3, "x", []])
def test_content_that_is_no_object_is_refused(content: object) -> None:
    with pytest.raises(InputError, match="the content must be an object"):
        from_json(Outer, content)


def test_fields_with_a_default_may_be_missing_if_that_is_allowed() -> None:
    assert from_json(Outer, {"inner": {"name": "i"}}, complete=False) == Outer(inner=Inner(name="i"))
    with pytest.raises(InputError, match=r"missing fields \(inner\)"):
        from_json(Outer, {}, complete=False)


def test_errors_stay_short_for_large_values() -> None:
    with pytest.raises(InputError) as info:
        from_json(Outer, RIGHT | {"number": "9" * 10**6, **{"z" * 10**5 + str(n): 1 for n in range(9)}})
    assert len(str(info.value)) < 1000
    with pytest.raises(InputError) as info:
        from_json(Outer, RIGHT | {"number": "9" * 10**6})
    assert len(str(info.value)) < 1000


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not JSON"),
        ('{"a": 1', "not JSON"),
        ('{"a": 1, "a": 2}', "the name 'a' twice"),
        ('{"b": {"a": 1, "a": 1}}', "the name 'a' twice"),
        ("[" * 10**5, "nested too deeply"),
        ("9" * 5000, "a number that cannot be read"),
    ],
)
def test_text_that_is_no_json_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        parsed_json(text)
