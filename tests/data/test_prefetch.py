"""From the map to the device: all ways give the same crops in the same order."""

import numpy as np
import pytest
import torch

from reid_accel.data import prefetch as transfer
from reid_accel.data.crop_cache import CropCache
from reid_accel.data.prefetch import MappedCrops, ReadAheadCrops, ResidentCrops, place_crops

CPU = torch.device("cpu")
CROPS = np.random.default_rng(0).integers(0, 256, (50, 3, 8, 4), np.uint8)
ROWS = [np.array(rows) for rows in ([3, 1, 3], [49], [0, 7, 20, 21], [5], [6], [7], [8], [9])]


def all_ways() -> dict[str, transfer.Crops]:
    cache = CropCache(CROPS, {})
    return {
        "mapped": MappedCrops(cache),
        "resident": ResidentCrops(torch.from_numpy(CROPS)),
        "read ahead": ReadAheadCrops(cache, CPU, ahead=2),
        "read far ahead": ReadAheadCrops(cache, CPU, ahead=100),
    }


@pytest.mark.parametrize("way", all_ways())
def test_rows_come_in_order(way: str) -> None:
    given = list(all_ways()[way].batches(iter(ROWS)))
    assert len(given) == len(ROWS)
    for rows, crops in zip(ROWS, given, strict=True):
        assert np.array_equal(crops.numpy(), CROPS[rows])


def test_reading_ahead_ends_with_the_consumer() -> None:
    import threading

    asked = []

    def rows():
        for row in range(1_000):
            asked.append(row)
            yield np.array([row % 50])

    batches = ReadAheadCrops(CropCache(CROPS, {}), CPU, ahead=3).batches(rows())
    next(batches)
    batches.close()
    assert len(asked) < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read ahead")]


def test_an_error_while_reading_is_raised_where_it_belongs() -> None:
    rows = iter([np.array([1]), np.array([2]), np.array([3, 50])])  # there is no crop 50
    batches = ReadAheadCrops(CropCache(CROPS, {}), CPU, ahead=2).batches(rows)
    assert [len(next(batches)), len(next(batches))] == [1, 1]
    with pytest.raises(IndexError, match="50"):
        next(batches)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_copies_during_computation_give_the_same_crops_in_order() -> None:
    rows = [np.random.default_rng(step).integers(0, len(CROPS), 16) for step in range(200)]
    device = torch.device("cuda", 0)
    busy = torch.randn(2048, 2048, device=device)
    for rows_B, crops in zip(rows, ReadAheadCrops(CropCache(CROPS, {}), device).batches(rows), strict=True):
        busy = (busy @ busy).clamp_(-1, 1)
        assert crops.device == device
        assert torch.equal(crops.cpu(), torch.from_numpy(CROPS[rows_B]))


class TestPlace:
    """Which way is taken: a pretended device, whose copies are made on the CPU."""

    @pytest.fixture(autouse=True)
    def device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(transfer, "_copied", lambda cache, device: torch.from_numpy(cache.crops_N3HW))
        monkeypatch.setattr(transfer, "free_memory", lambda device: 10_000)

    def place(self, share: float, device: str = "cuda") -> transfer.Crops:
        return place_crops(CropCache(CROPS, {}), torch.device(device), share)

    def test_the_cpu_reads_from_the_map(self) -> None:
        assert isinstance(self.place(0.5, "cpu"), MappedCrops)

    def test_what_fits_is_copied_at_once(self, caplog: pytest.LogCaptureFixture) -> None:
        assert CROPS.nbytes == 4_800
        assert isinstance(self.place(0.48), ResidentCrops)
        assert not caplog.messages

    def test_what_does_not_fit_is_read_ahead_with_a_message(self, caplog: pytest.LogCaptureFixture) -> None:
        assert isinstance(self.place(0.47), ReadAheadCrops)
        assert "--data.device-share" in caplog.text

    def test_a_share_of_0_needs_no_message(self, caplog: pytest.LogCaptureFixture) -> None:
        assert isinstance(self.place(0.0), ReadAheadCrops)
        assert not caplog.messages

    def test_memory_that_another_process_has_taken_is_no_failure(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def too_late(cache: CropCache, device: torch.device) -> torch.Tensor:
            raise torch.cuda.OutOfMemoryError("taken")

        monkeypatch.setattr(transfer, "_copied", too_late)
        assert isinstance(self.place(0.5), ReadAheadCrops)
        assert len(caplog.messages) == 1


def test_copying_in_pieces_copies_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "COPIED_BYTES", 7 * CROPS[:1].nbytes)
    assert np.array_equal(transfer._copied(CropCache(CROPS, {}), CPU).numpy(), CROPS)
