"""`ReIDModel.embed` and `ReIDModel.attributes`: one picture or many, files or arrays."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from reid_accel.attributes.vocabulary import MARKET_GROUPS, AttributeGroup
from reid_accel.config.schema import ModelConfig
from reid_accel.data.images import to_pixels
from reid_accel.errors import InputError
from reid_accel.models.architecture import Architecture
from reid_accel.models.reid import ReIDModel


def network(neck: Literal["fc", "bn"] = "fc", settings: ModelConfig | None = None, **facts: Any) -> ReIDModel:
    torch.manual_seed(0)
    settings = settings or ModelConfig(backbone="test_resnet", pretrained=False, height_px=64, width_px=32, neck=neck)
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


def test_a_model_resizes_as_it_was_trained(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (200, 100, 3), np.uint8)
    features = {}
    for interpolation in ("bilinear", "cv2"):
        settings = replace(network().architecture.model, interpolation=interpolation)
        network(settings=settings).save_pretrained(tmp_path / interpolation)
        loaded = ReIDModel.from_pretrained(tmp_path / interpolation)
        pixels = to_pixels(Image.fromarray(noise), loaded.architecture).transpose(1, 2, 0)
        features[interpolation] = loaded.embed(noise)
        assert torch.equal(features[interpolation], loaded.embed(np.ascontiguousarray(pixels)))
    assert not torch.allclose(features["bilinear"], features["cv2"], rtol=0.01), "the control: the resize matters"


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
        (5, "images must be a path.*not of the type int"),
        (b"0.jpg", "not of the type bytes"),
        ({"a": 1}, "not of the type dict"),
        ([None], "image 0 must be a path.*not of the type NoneType"),
        ([np.ones((8, 8, 3), np.uint8), 1.5], "image 1 must be a path.*not of the type float"),
        ("name\0.jpg", r"cannot read the image name\\x00\.jpg"),
        (torch.zeros(48, 24, 3).half(), r"must be uint8.*got torch\.float16 \(48, 24, 3\) as image 0"),
        (torch.zeros(48, 24, 3).bfloat16(), r"must be uint8.*got torch\.bfloat16"),
        (torch.zeros((3, 48, 24), dtype=torch.uint8), r"H x W x 3 \(RGB\), got torch\.uint8 \(3, 48, 24\)"),
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


@pytest.mark.parametrize("shape", [(0, 24, 3), (24, 0, 3), (0, 0, 3)])
def test_a_crop_without_pixels_is_refused_with_its_number(shape: tuple[int, ...]) -> None:
    model, good = network(), np.ones((48, 24, 3), np.uint8)
    for empty in (np.zeros(shape, np.uint8), torch.zeros(shape, dtype=torch.uint8)):
        with pytest.raises(InputError, match=r"image 3 has no pixels.*leave empty crops out"):
            model.embed([good, good, good, empty], batch_size=2)
    with pytest.raises(InputError, match="image 1: it has no pixels"):
        model.embed([good, Image.new("RGB", (shape[1], shape[0]))])
    with pytest.raises(InputError, match="image 0 has no pixels"):
        model.prepare([np.zeros(shape, np.uint8)])


@pytest.mark.parametrize("groups", [(), MARKET_GROUPS])
@pytest.mark.parametrize("images", [[], (), np.zeros((0, 8, 8, 3), np.uint8)])
def test_no_images_give_no_rows(images: Any, groups: tuple[AttributeGroup, ...]) -> None:
    model = network(groups=groups)
    features = model.embed(images)
    assert features.shape == (0, model.feature_size)
    assert features.dtype == torch.float32
    assert model.prepare(images).shape == (0, 3, 64, 32)
    if groups:
        assert model.attributes(images) == model.attributes(images, probabilities=True) == []


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-2), (torch.bfloat16, 6e-2), (torch.float64, 1e-5)])
@pytest.mark.parametrize("neck", ["fc", "bn"])
@pytest.mark.parametrize("groups", [(), MARKET_GROUPS])
def test_a_model_in_any_precision_embeds(
    pictures: list[Image.Image], dtype: torch.dtype, tolerance: float, neck: Any, groups: tuple[AttributeGroup, ...]
) -> None:
    model = network(neck=neck, groups=groups)
    expected = model.embed(pictures)
    model.to(dtype)
    features = model.embed(pictures, batch_size=2)
    assert features.dtype == torch.float32
    assert (features - expected).abs().max() < tolerance * expected.abs().max()
    assert model.prepare(pictures).dtype == dtype
    if groups:
        assert len(model.attributes(pictures)) == len(pictures)


def test_uint8_tensors_are_taken_as_arrays_are(pictures: list[Image.Image]) -> None:
    model, arrays = network(), [np.asarray(picture) for picture in pictures]
    expected = model.embed(arrays)
    assert torch.equal(model.embed([torch.tensor(array) for array in arrays]), expected)
    assert torch.equal(model.embed(torch.tensor(np.stack(arrays))), expected)


def test_an_image_opened_by_the_caller_is_read_as_its_file(tmp_path: Path) -> None:
    rng, model = np.random.default_rng(1), network()
    thermal = Image.fromarray(rng.integers(30_000, 31_000, (48, 24), np.uint16))
    thermal.save(tmp_path / "thermal.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.fromarray(rng.integers(0, 256, (24, 48, 3), np.uint8))
    lying.save(tmp_path / "lying.png", exif=exif)
    lying.putalpha(Image.fromarray(rng.integers(0, 256, (24, 48), np.uint8)))
    lying.save(tmp_path / "alpha.png")
    for path in sorted(tmp_path.iterdir()):
        with Image.open(path) as image:
            assert torch.equal(model.embed(image), model.embed(path)), path.name
    upright = np.asarray(Image.open(tmp_path / "lying.png")).transpose(1, 0, 2)[:, ::-1]
    assert torch.equal(model.embed(tmp_path / "lying.png"), model.embed(upright))


def test_an_opened_image_whose_file_is_damaged_is_a_sentence(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:5000])
    with Image.open(tmp_path / "a.png") as image, pytest.raises(InputError, match=r"cannot read image 0: .*truncated"):
        network().embed([image])
