"""Exports that are broken on purpose: each is refused with its own sentence, and leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.exports import GROUPS, saved, small_model
from torch import Tensor

from reid_accel.config.export import ExportConfig
from reid_accel.errors import InputError
from reid_accel.export import job, onnx_file
from reid_accel.export.graph import ExportGraph
from reid_accel.export.parity import cosines, first_matches, reference
from reid_accel.export.pictures import proof_pictures
from reid_accel.export.write import export

Change = Callable[[ExportGraph, Tensor], Tensor]


def broken(monkeypatch: pytest.MonkeyPatch, before: Change | None = None, after: Change | None = None) -> None:
    """Let exported graphs do something before the network, or after it."""

    class Broken(ExportGraph):
        def forward(self, images_B3HW: Tensor) -> Any:
            outputs = super().forward(images_B3HW if before is None else before(self, images_B3HW))
            return outputs if after is None else after(self, outputs)

    monkeypatch.setattr(job, "ExportGraph", Broken)


def normalized(graph: ExportGraph, images: Tensor) -> Tensor:
    mean, std = per_channel(graph)
    return (images - mean) / std


def pixels(graph: ExportGraph, images: Tensor) -> Tensor:
    mean, std = per_channel(graph)
    return images * std + mean


def per_channel(graph: ExportGraph) -> tuple[Tensor, Tensor]:
    architecture = graph.network.architecture
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (architecture.mean, architecture.std))
    return mean, std


MISTAKES: dict[str, tuple[Change, str]] = {
    "normalized twice": (normalized, "the pixels are normalized twice"),
    "not normalized": (lambda graph, images: pixels(graph, images), "the pixels are not normalized"),
    "BGR": (
        lambda graph, images: normalized(graph, pixels(graph, images).flip(1)),
        r"the color channels are in the wrong order \(BGR for RGB\)",
    ),
    "channels": (lambda graph, images: images.flip(1), "in the wrong order after the normalization"),
    "range": (
        lambda graph, images: normalized(graph, pixels(graph, images) * 255),
        "the range of the pixels is 255 times too large",
    ),
    "upside down": (lambda graph, images: images.flip(2), "the image is upside down"),
    "frozen batch": (
        lambda graph, images: images.reshape(2, *images.shape[1:]),
        "its batch size is fixed to 2: at batch size 1",
    ),
    "mixed batch": (
        lambda graph, images: images - images.mean(0, keepdim=True) * 0.9 + images[:1] * 0.9,
        "influence each",
    ),
    "not a number": (lambda graph, images: images / 0 * 0, "numbers that are not finite"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_and_nothing_is_written(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, sentence = MISTAKES[mistake]
    model = saved(tmp_path, neck="bn")
    broken(monkeypatch, before=change)
    with pytest.raises(InputError, match=sentence) as refused:
        export(str(model), ExportConfig(to=("torchscript",)))
    assert "model.torchscript is not written" in str(refused.value)
    assert "at batch size" in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_features_of_another_length_are_refused_where_distances_depend_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = saved(tmp_path, metric="euclidean")
    broken(monkeypatch, after=lambda graph, feature: feature * 1.01)
    with pytest.raises(InputError, match=r"its features have other lengths \(1.01 times the model's\)"):
        export(str(model), ExportConfig(to=("torchscript",)))


def test_a_wrong_attribute_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = saved(tmp_path, groups=GROUPS)
    broken(monkeypatch, after=lambda graph, outputs: (outputs[0], outputs[1].flip(1), outputs[2]))
    with pytest.raises(InputError, match="a probability of the attribute hat differs by"):
        export(str(model), ExportConfig(to=("torchscript",), with_attributes=True))


def test_one_changed_weight_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = saved(tmp_path)

    def with_one_changed_weight(network: Any, *more: Any) -> Any:
        initializer = next(each for each in network.graph.initializer if len(each.dims) == 4)
        values = np.frombuffer(initializer.raw_data, np.float32).copy()
        values[0] += 1
        initializer.raw_data = values.tobytes()
        return network, ()

    monkeypatch.setattr(onnx_file, "in_opset", with_one_changed_weight)
    with pytest.raises(
        InputError, match=r"none of the known mistakes .* its weights or its operators are not the model"
    ):
        export(str(model), ExportConfig())
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_first_match_is_compared_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    feature_ND = rng.normal(size=(9, 4)).astype(np.float32)
    for metric in ("euclidean", "cosine"):
        unit = feature_ND / np.linalg.norm(feature_ND, axis=1, keepdims=True) if metric == "cosine" else feature_ND
        right = [
            min((m for m in range(9) if m != n), key=lambda m: np.linalg.norm(unit[n] - unit[m])) for n in range(9)
        ]
        assert first_matches(feature_ND, metric)[0].tolist() == right


def test_a_cosine_of_anything_but_numbers_is_minus_one() -> None:
    zero, one = np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)
    assert cosines(zero, zero).tolist() == [1]
    assert cosines(zero, one).tolist() == [-1]
    assert cosines(one * np.nan, one).tolist() == [-1]


def test_the_drawn_pedestrians_are_the_same_everywhere() -> None:
    pictures = proof_pictures(small_model().architecture)
    assert pictures.pixels_NHW3.shape == (32, 64, 32, 3)
    assert len({image.tobytes() for image in pictures.pixels_NHW3}) == 32
    assert np.array_equal(pictures.pixels_NHW3, proof_pictures(small_model().architecture).pixels_NHW3)
    assert abs(float(pictures.pixels_NHW3.mean()) - 121) < 20


def test_the_reference_is_what_the_model_returns() -> None:
    model = small_model(groups=GROUPS)
    wanted = reference(model, proof_pictures(model.architecture))
    images = [torch.from_numpy(image) for image in wanted.pictures.pixels_NHW3]
    np.testing.assert_array_equal(wanted.feature_ND, model.embed(images, batch_size=32).numpy())
    assert [part.shape for part in wanted.probabilities] == [(32, 2), (32, 3)]
