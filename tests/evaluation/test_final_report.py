"""What a report says about its data."""

from reid_accel.config.schema import DataConfig
from reid_accel.data.splits import OpenedData
from reid_accel.evaluation.final_report import data_facts

NOTHING = OpenedData({}, (), ())


def test_a_data_set_is_called_by_its_title_or_else_its_name() -> None:
    config = DataConfig(name="market-layout", root="sets/cuhk03-np", title="CUHK03-NP detected")
    facts = data_facts(NOTHING, config)
    assert (facts["name"], facts["title"], facts["drawn"]) == ("market-layout", "CUHK03-NP detected", False)
    assert data_facts(NOTHING, DataConfig(name="course", root="sets/course"))["title"] == "course"


def test_both_synthetic_sets_are_drawn() -> None:
    for name in ("synthetic", "synthetic-course"):
        assert data_facts(NOTHING, DataConfig(name=name))["drawn"]
    assert not data_facts(NOTHING, DataConfig(name="synthetic", also=("market1501:folder",)))["drawn"]


def test_a_table_passed_to_training_is_not_taken_for_the_set_that_the_settings_name() -> None:
    facts = data_facts(OpenedData({}, (), (), own_table=True), DataConfig())
    assert not facts["drawn"]
    assert (facts["name"], facts["root"]) == ("own table", "passed as a table")
