"""The training input in this process: what of a run it needs, and that an image is its own in any batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.trainers import trainer

from reid_accel.augment.rng import Draws, Stream
from reid_accel.data.images import enlarge, to_bytes, to_float
from reid_accel.data.sampler import rank_share
from reid_accel.training import dataloader as training_input
from reid_accel.training.dataloader import DeviceInput, patch_pool

PATCHES = "--augment.patch-probability=0.5"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def input_of(root: Path, *flags: str) -> DeviceInput:
    opened = trainer(root, *flags).input
    assert isinstance(opened, DeviceInput)
    return opened


def images_of(source: DeviceInput, lists: list[np.ndarray], epoch: int = 3) -> torch.Tensor:
    return torch.cat([batch.images_BCHW for batch in source.batches(lists, epoch)])


@pytest.mark.parametrize("flag", [PATCHES, "--augment.trivial-augment=0.5"])
def test_an_image_is_changed_alike_for_any_number_of_processes(small_market: Path, flag: str) -> None:
    source, plain = input_of(small_market, flag), input_of(small_market)
    batch = np.array([3, 0, 7, 12, 20, 5, 16, 1])
    whole = images_of(source, [batch])
    for world_size, parts in ((2, 1), (4, 1), (2, 2)):
        for rank in range(world_size):
            lists = rank_share(batch, rank=rank, world_size=world_size, micro_batches=parts)
            places = [int(np.flatnonzero(batch == row)[0]) for row in np.concatenate(lists)]
            own = input_of(small_market, flag)
            assert torch.equal(images_of(own, lists), whole[places])
    changed = (whole != images_of(plain, [batch])).flatten(1).any(1)
    assert 0 < changed.sum() < len(batch), "the control: some are changed, and those that aren't keep their bits"
    assert not torch.equal(images_of(source, [batch], epoch=4), whole)


def test_the_pool_is_drawn_once_from_the_training_images(small_market: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_input, "POOL_SIZE", 5)
    built = trainer(small_market, PATCHES)
    images, size = built.data.images, built.input.architecture
    pool = built.input.pool_P3HW
    every = to_bytes(enlarge(to_float(images.crops.gather(images.row_N)), size))
    found = [int((every == member).flatten(1).all(1).nonzero().item()) for member in pool]
    assert found == sorted(set(found))
    assert len(found) == 5
    assert torch.equal(patch_pool(images, size, 0, CPU), pool)
    assert not torch.equal(patch_pool(images, size, 1, CPU), pool), "another seed draws others"
    monkeypatch.setattr(training_input, "POOL_SIZE", 1_000)
    assert torch.equal(patch_pool(images, size, 0, CPU), every), "a small set is its own pool"
    assert input_of(small_market).pool_P3HW is None


def test_a_batch_holds_images_and_the_labels_of_their_rows(small_market: Path) -> None:
    built = trainer(small_market)
    rows = np.array([3, 0, 20])
    batch = next(built.input.batches([rows], 0))
    expected = built.data.images.select(rows)
    assert batch.row_B.tolist() == rows.tolist()
    assert batch.identity_B.tolist() == built.data.identity_N[rows].tolist()
    assert batch.camera_B.tolist() == expected.camera_N.tolist() == [2, 1, 1]
    assert batch.attributes_BA.shape == expected.attributes_NA.shape
    assert batch._fields == ("images_BCHW", "identity_B", "camera_B", "attributes_BA", "row_B")


@pytest.mark.parametrize("sampler", ["uniform", "random-identity"])
def test_a_row_drawn_again_in_an_epoch_is_changed_in_another_way(small_market: Path, sampler: str) -> None:
    flags = ("--train.images-per-identity=4", f"--train.identity-sampler={sampler}", "--augment.color-jitter=0.3")
    built = trainer(small_market, *flags)
    rows_SB = np.concatenate([built.epoch_batches(0), built.epoch_batches(1)])
    images = torch.stack([batch.images_BCHW for batch in built.open_batches(rows_SB, epoch=0)]).flatten(0, 1)
    seen: dict[int, list[torch.Tensor]] = {}
    for row, image in zip(rows_SB.ravel().tolist(), images, strict=True):
        assert not any(torch.equal(image, before) for before in seen.get(row, []))
        seen.setdefault(row, []).append(image)
    assert max(map(len, seen.values())) > 1, "the control: some rows were drawn again"
    for start in (1, len(rows_SB) - 1):  # as after a resume
        rest = torch.stack([batch.images_BCHW for batch in built.open_batches(rows_SB, 0, start)]).flatten(0, 1)
        assert torch.equal(rest, images[start * 8 :])
    first = torch.stack([batch.images_BCHW for batch in built.input.batches(list(rows_SB), 0)]).flatten(0, 1)
    assert torch.equal(first[:8], images[:8]), "the first draw of a row is what it was"


def test_an_attempt_is_a_function_of_the_row_and_its_number() -> None:
    rows, repeats = torch.tensor([3, 3, 12_935]), torch.tensor([0, 1, 0])
    drawn = Draws.of(5, 7, rows, host_repeat_B=repeats)
    again = drawn.attempts(Stream.ERASE_BOX, 16)
    assert torch.equal(drawn.rows_B, rows)
    assert torch.equal(again[:, 0], drawn[Stream.ERASE_BOX])
    assert torch.equal(again[0, 0], Draws.of(5, 7, rows)[Stream.ERASE_BOX][1]), "a first draw is what it was"
    assert len(again.flatten(0, 1)[:, 1].unique()) == 3 * 16
    (_, part) = drawn.split([1, 2])
    assert torch.equal(part.attempts(Stream.ERASE_BOX, 16), again[1:])
