from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.made_sets import draw_image

from reid_accel.attributes.annotations import write_course_csv
from reid_accel.config.schema import DataConfig
from reid_accel.data import open as opening
from reid_accel.data.open import open_data
from reid_accel.data.sets import list_dataset
from reid_accel.data.splits import OpenedData, split_training_images
from reid_accel.errors import InputError

SIZE = SimpleNamespace(height_px=32, width_px=16, interpolation="bilinear", fit="stretch")


def opened(root: Path, name: str = "market-layout", **more: object) -> OpenedData:
    config = DataConfig(name=name, root=str(root), cache_dir=str(root / "cache"))  # type: ignore[arg-type]
    return open_data(config, SIZE, **more)  # type: ignore[arg-type]


def test_scoring_decodes_no_training_image_but_has_the_labels(small_market: Path) -> None:
    (small_market / "bounding_box_train" / "0001_c1s1_000000_00.png").write_bytes(b"broken")
    data = opened(small_market, for_training=False)
    assert len(list((small_market / "cache" / "crops").iterdir())) == 2
    assert len(data.splits["train"]) == 24
    assert data.splits["query"].crops.crops_N3HW.shape == (6, 3, 32, 16)
    training, held_out = split_training_images(data, 0.3)
    assert held_out is not None
    assert training.num_identities + held_out.num_identities == 6
    with pytest.raises(InputError, match="cannot read the image"):
        opened(small_market)


def test_the_held_out_people_of_the_course_layout_are_scored(tmp_path: Path) -> None:
    draw_image(tmp_path / "train" / "0474_c5_013563167.jpg")
    draw_image(tmp_path / "test" / "016903.jpg")
    draw_image(tmp_path / "queries" / "001261.jpg")
    write_course_csv(tmp_path / "annotations_train.csv", {474: (0,) * 12})
    data = opened(tmp_path, "course", for_training=False)
    assert data.splits["train"].crops.crops_N3HW.shape[0] == 1


def test_a_set_is_listed_once(small_market: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []

    def counted(config: DataConfig, **more: object) -> object:
        listed.append(config.name)
        return list_dataset(config, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(opening, "list_dataset", counted)
    opened(small_market)
    assert listed == ["market-layout"]


def test_two_additional_sets_of_one_name_are_refused(small_market: Path, tmp_path: Path) -> None:
    also = (f"market-layout:{small_market}", f"market-layout:{small_market}")
    config = DataConfig(name="market-layout", root=str(small_market), also=also, cache_dir=str(tmp_path))
    with pytest.raises(InputError, match="two folders of the same name"):
        open_data(config, SIZE)
