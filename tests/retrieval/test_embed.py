from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image

from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.config.schema import ModelConfig, PredictConfig
from reid_accel.data.crop_cache import Decoding
from reid_accel.data.dataset import open_unlabeled
from reid_accel.models.reid import Architecture, ReIDModel
from reid_accel.retrieval.embed import embed_dataset, place_by_row

SIZE = SimpleNamespace(height_px=64, width_px=32, interpolation="bilinear", fit="stretch")


def model() -> ReIDModel:
    torch.manual_seed(0)
    return ReIDModel(
        Architecture(
            model=ModelConfig(backbone="test_resnet", height_px=64, width_px=32),
            groups=MARKET_GROUPS,
            num_identities=2,
        )
    )


def test_sets_embed_as_single_pictures_do(small_market: Path, tmp_path: Path) -> None:
    network = model().train()
    folder = small_market / "bounding_box_test"
    images, _ = open_unlabeled(folder, Decoding(SIZE, tmp_path))
    embeddings, attributes = embed_dataset(network, images, PredictConfig(batch_size=5))
    assert network.training, "the mode is put back"
    for position, name in enumerate(images.name_N):
        with Image.open(folder / name) as picture:
            picture.load()
        alone = network.embed([picture])[0]
        assert torch.allclose(embeddings.embedding_SD[position], alone, atol=1e-5)
        words = network.attributes([picture])[0]
        said = [group.values[i] for group, i in zip(MARKET_GROUPS, attributes.value_NA[position], strict=True)]
        assert said == list(words.values())


def test_junk_score_is_the_sum_of_squared_scores(small_market: Path, tmp_path: Path) -> None:
    network = model().eval()
    images, _ = open_unlabeled(small_market / "query", Decoding(SIZE, tmp_path))
    _, attributes = embed_dataset(network, images, PredictConfig(batch_size=64))
    with Image.open(small_market / "query" / images.name_N[3]) as picture, torch.no_grad():
        logits = network(network.prepare([picture])).attribute_logits
    expected = sum(float(logit.softmax(1).square().sum()) for logit in logits)
    assert attributes.junk_score_N[3].item() == pytest.approx(expected, rel=1e-5)


def test_rows_find_their_place() -> None:
    rows = torch.tensor([3, 0, 4, 1, 2])
    placed, twice = place_by_row(rows, (rows * 10, torch.stack([rows, -rows], 1)), 5)
    assert placed.tolist() == [0, 10, 20, 30, 40]
    assert twice[:, 1].tolist() == [0, -1, -2, -3, -4]


@pytest.mark.parametrize("rows", [[0, 1, 1, 3], [0, 1, 2], [0, 1, 2, 3, 4], [0, 1, 3, 3]])
def test_a_missing_or_doubled_row_is_caught(rows: list[int]) -> None:
    with pytest.raises(AssertionError, match="not embedded exactly once"):
        place_by_row(torch.tensor(rows), (torch.zeros(len(rows)),), 4)


def test_an_images_row_is_its_own(small_market: Path, tmp_path: Path) -> None:
    images, _ = open_unlabeled(small_market / "query", Decoding(SIZE, tmp_path))
    network = model().eval()
    whole, _ = embed_dataset(network, images, PredictConfig(batch_size=4))
    turned, _ = embed_dataset(network, images.select(np.arange(len(images))[::-1]), PredictConfig(batch_size=4))
    assert torch.allclose(turned.embedding_SD.flip(0), whole.embedding_SD, atol=1e-5)
    assert not torch.allclose(turned.embedding_SD, whole.embedding_SD, atol=1e-5)


def test_flip_averages_with_the_mirror_image(small_market: Path, tmp_path: Path) -> None:
    images, _ = open_unlabeled(small_market / "query", Decoding(SIZE, tmp_path))
    network = model().eval()
    averaged, averaged_attributes = embed_dataset(network, images, PredictConfig(batch_size=4, flip=True))
    plain, _ = embed_dataset(network, images, PredictConfig(batch_size=4))
    with Image.open(small_market / "query" / images.name_N[2]) as picture, torch.no_grad():
        seen = [network(network.prepare([view])) for view in (picture, picture.transpose(Image.Transpose(0)))]
    expected = (seen[0].feature_BD + seen[1].feature_BD) / 2
    assert torch.allclose(averaged.embedding_SD[2], expected[0], atol=1e-5)
    assert not torch.allclose(averaged.embedding_SD[2], plain.embedding_SD[2], atol=1e-5)
    scores = sum(network.attribute_scores(outputs.attribute_logits) for outputs in seen) / 2
    assert averaged_attributes.junk_score_N[2].item() == pytest.approx(scores.square().sum().item(), rel=1e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_five_crops_are_averaged(small_market: Path, tmp_path: Path, flip: bool) -> None:
    images, _ = open_unlabeled(small_market / "query", Decoding(SIZE, tmp_path))
    network = model().eval()
    for head in network.attribute_heads:
        head.weight.data *= 50  # an untrained one gives nearly the same scores whatever it sees
    averaged, averaged_attributes = embed_dataset(network, images, PredictConfig(batch_size=4, flip=flip, crops=5))
    with Image.open(small_market / "query" / images.name_N[2]) as picture, torch.no_grad():
        whole = network.prepare([picture])  # enlarging and normalizing are linear: one may come before the other
        corners = [TF.resize(corner, [64, 32], antialias=True) for corner in TF.five_crop(whole, [56, 28])[:4]]
        views = [whole, *corners]
        views += [TF.hflip(view) for view in views] if flip else []
        seen = [network(view) for view in views]
    feature = torch.stack([outputs.feature_BD for outputs in seen]).mean(0)[0]
    assert torch.allclose(averaged.embedding_SD[2], feature, atol=1e-5)
    for group, logits in enumerate(zip(*(outputs.attribute_logits for outputs in seen), strict=True)):
        assert averaged_attributes.value_NA[2, group] == torch.stack(logits).mean(0).argmax()
    scores = torch.stack([network.attribute_scores(outputs.attribute_logits) for outputs in seen]).mean(0)
    assert averaged_attributes.junk_score_N[2].item() == pytest.approx(scores.square().sum().item(), rel=1e-5)
    one, one_attributes = embed_dataset(network, images, PredictConfig(batch_size=4, flip=flip))
    assert averaged_attributes.junk_score_N[2].item() != pytest.approx(one_attributes.junk_score_N[2].item(), rel=1e-4)
    assert not torch.allclose(averaged.embedding_SD[2], one.embedding_SD[2], atol=1e-4)


def test_crops_are_averaged_alike_in_any_batch(small_market: Path, tmp_path: Path) -> None:
    images, _ = open_unlabeled(small_market / "query", Decoding(SIZE, tmp_path))
    network = model().eval()
    by_four, by_one = (
        embed_dataset(network, images, PredictConfig(batch_size=size, flip=True, crops=5))[0] for size in (4, 1)
    )
    assert torch.allclose(by_four.embedding_SD, by_one.embedding_SD, atol=1e-6)
    assert not torch.allclose(by_four.embedding_SD, by_one.embedding_SD.roll(1, 0), atol=1e-6)
