import pytest

from reid_accel.attributes.vocabulary import MARKET_COLUMNS, MARKET_GROUPS, annotation_columns, class_indices
from reid_accel.errors import InputError

HEADER = (
    "age,backpack,bag,handbag,clothes,down,up,hair,hat,gender,upblack,upwhite,upred,uppurple,upyellow,upgray,"
    "upblue,upgreen,downblack,downwhite,downpink,downpurple,downyellow,downgray,downblue,downgreen,downbrown"
)


def test_columns_are_those_of_the_course_file() -> None:
    assert ",".join(MARKET_COLUMNS) == HEADER


def test_twelve_groups_have_forty_one_values() -> None:
    assert len(MARKET_GROUPS) == 12
    assert sum(len(group.values) for group in MARKET_GROUPS) == 41


def test_every_single_value_survives_the_round_trip() -> None:
    for place, group in enumerate(MARKET_GROUPS):
        for value in range(len(group.values)):
            indices = tuple(value if here == place else 1 for here in range(12))
            assert class_indices(annotation_columns(indices)) == indices


def test_no_color_is_multicolor() -> None:
    columns = dict.fromkeys(MARKET_COLUMNS, 1)
    assert class_indices(columns)[-2:] == (0, 0)
    assert class_indices(columns | {"upgreen": 2, "downbrown": 2})[-2:] == (8, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"age": 5}, "age must be between 1 and 4"),
        ({"hat": 0}, "hat must be between 1 and 2"),
        ({"upred": 2, "upblue": 2}, "only one of"),
    ],
)
def test_impossible_columns_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        class_indices(dict.fromkeys(MARKET_COLUMNS, 1) | change)


def test_missing_columns_are_named() -> None:
    with pytest.raises(InputError, match="hair"):
        class_indices({column: 1 for column in MARKET_COLUMNS if column != "hair"})


def test_unknown_attributes_cannot_be_written() -> None:
    with pytest.raises(InputError, match="age must be between 0 and 3, got -1"):
        annotation_columns((-1,) * 12)
