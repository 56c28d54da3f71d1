"""`ReIDModel.embed` and `ReIDModel.attributes`: one picture or many, files or arrays."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.config.schema import ModelConfig
from reid_accel.errors import InputError
from reid_accel.models.architecture import Architecture
from reid_accel.models.reid import ReIDModel


def network(**facts: Any) -> ReIDModel:
    torch.manual_seed(0)
    settings = ModelConfig(backbone="test_resnet", pretrained=False, height_px=64, width_px=32)
    return ReIDModel(Architecture(model=settings, num_identities=2, **facts))


@pytest.fixture
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (48, 24, 3), np.uint8)) for _ in range(5)]


@pytest.fixture
def files(pictures: Sequence[Image.Image], tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(len(pictures))]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    return paths


def test_one_image_of_any_kind_gives_one_row(pictures: list[Image.Image], files: list[Path]) -> None:
    model = network()
    expected = model.embed(pictures[:1])
    for image in (files[0], str(files[0]), pictures[0], np.asarray(pictures[0])):
        assert torch.equal(model.embed(image), expected), type(image)


def test_lists_of_any_kind_give_a_row_each_in_order(pictures: list[Image.Image], files: list[Path]) -> None:
    model = network()
    expected = model.embed(pictures)
    assert expected.shape == (5, model.feature_size)
    arrays = [np.asarray(picture) for picture in pictures]
    for images in (
        files,
        [str(path) for path in files],
        arrays,
        tuple(arrays),
        np.stack(arrays),
        [files[0], *arrays[1:]],
    ):
        assert torch.equal(model.embed(images), expected), type(images)


def test_no_more_images_than_the_batch_size_are_in_memory_at_once(pictures: list[Image.Image]) -> None:
    model, sizes = network(), []
    expected = model.embed(pictures)
    model.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    assert torch.allclose(model.embed(pictures, batch_size=2), expected, atol=1e-6)
    assert sizes == [2, 2, 1]


def test_probabilities_are_those_of_the_named_values(pictures: list[Image.Image]) -> None:
    model = network(groups=MARKET_GROUPS)
    named, scored = model.attributes(pictures, batch_size=2), model.attributes(pictures, probabilities=True)
    assert len(named) == len(scored) == 5
    for names, probabilities in zip(named, scored, strict=True):
        assert list(names) == list(probabilities) == [group.name for group in MARKET_GROUPS]
        for group in MARKET_GROUPS:
            values = probabilities[group.name]
            assert tuple(values) == group.values
            assert sum(values.values()) == pytest.approx(1)
            assert max(values, key=lambda value: values[value]) == names[group.name]
    assert model.attributes(pictures[0]) == named[:1]


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ("absent.jpg", "cannot read the image absent.jpg"),
        ([], "there are no images"),
        (np.zeros((8, 8, 3), np.float32), "must be uint8"),
        ([np.zeros((8, 8), np.uint8)], r"must be uint8, H x W x 3 \(RGB\), got uint8 \(8, 8\)"),
    ],
)
def test_what_is_no_picture_is_refused(images: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        network().embed(images)
    with pytest.raises(InputError, match="batch_size must be 1 or more"):
        network().embed(np.zeros((8, 8, 3), np.uint8), batch_size=0)
    with pytest.raises(InputError, match="without attributes"):
        network().attributes(np.zeros((8, 8, 3), np.uint8))
