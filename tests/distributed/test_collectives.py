"""The collectives on real processes, and the gradient of a gathered batch: the one of a single process."""

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from helpers.gathering_worker import gradients_of_one_process
from helpers.launching import PACKAGE, launch, read_json

from reid_accel.distributed.collectives import ALONE, Group
from reid_accel.errors import InputError

WORLD = 3
WORKER = PACKAGE.parent / "tests" / "helpers" / "gathering_worker.py"


@pytest.mark.launch
def test_two_processes_get_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    launch(WORKER, tmp_path / "found", folder=tmp_path, processes=2)
    first, second = (read_json(tmp_path / f"found.{rank}") for rank in (0, 1))
    assert (first["world_size"], second["world_size"]) == (2, 2)
    assert (first["rank"], second["rank"]) == (0, 1)
    for name, (loss, gradient) in gradients_of_one_process().items():
        for found in (first[name], second[name]):
            assert found["loss"] == pytest.approx(loss, rel=1e-6)
            torch.testing.assert_close(torch.tensor(found["gradient"]), gradient, atol=1e-6, rtol=0)
            # controls: each process its own half; the gathered rows without the factor
            for control in ("own_half_gradient", "unscaled_gradient"):
                assert (torch.tensor(found[control]) - gradient).abs().max() > 1e-2, control


def exchange(rank: int, folder: str) -> None:
    """What each of three processes gets from every collective."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    group = Group.of()
    own = torch.arange(2 * rank).view(rank, 2)  # no rows, one row, two rows
    gathered = group.gather_rows(own)
    model = torch.nn.BatchNorm1d(2)
    model.running_mean += rank + 5

    def fail(on: int) -> str:
        def work() -> int:
            if rank == on:
                raise InputError("row 7 is wrong")
            return rank

        try:
            return f"returned {group.together(work)}"
        except InputError as error:
            return str(error)

    group.broadcast_buffers(model)
    number = torch.tensor([1.0, rank])
    found = {
        "group": [group.rank, group.size, group.is_main],
        "sum": group.all_reduce(number).tolist(),
        "argument": number.tolist(),
        "stacked": group.all_gather(torch.tensor([rank, 10])).tolist(),
        "rows": group.all_gather_rows(own).tolist(),
        "rows_on_main": None if gathered is None else gathered.tolist(),
        "any": group.any(rank == 2, False, True),
        "number": group.broadcast_int(7 - 4 * rank),
        "mean": model.running_mean.tolist(),
        "failures": [fail(on) for on in (0, 2, WORLD)],
    }
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def test_every_collective_on_three_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(exchange, (str(tmp_path),), nprocs=WORLD)
    for rank in range(WORLD):
        found = read_json(tmp_path / f"{rank}.json")
        assert found["group"] == [rank, 3, rank == 0]
        assert (found["sum"], found["argument"]) == ([3.0, 3.0], [1.0, rank])
        assert found["stacked"] == [[0, 10], [1, 10], [2, 10]]
        assert found["rows"] == [[0, 1], [0, 1], [2, 3]]
        assert found["rows_on_main"] == (found["rows"] if rank == 0 else None)
        assert found["any"] == [True, False, True]
        assert (found["number"], found["mean"]) == (7, [5.0, 5.0])
        words = ["row 7 is wrong" if rank == on else f"on rank {on}: row 7 is wrong" for on in (0, 2)]
        assert found["failures"] == [*words, f"returned {rank}"]


def test_a_single_process_exchanges_and_copies_nothing() -> None:
    assert Group.of() is ALONE
    own = torch.ones(2, 3, requires_grad=True)
    for same in (ALONE.all_reduce, ALONE.all_gather_rows, ALONE.gather_rows, ALONE.all_gather_with_grad):
        assert same(own) is own
    assert ALONE.all_gather(own).data_ptr() == own.data_ptr()
    assert (ALONE.any(True, False), ALONE.broadcast_int(5), ALONE.is_main) == ((True, False), 5, True)
    with pytest.raises(InputError, match=r"^wrong$"):
        ALONE.together(lambda: (_ for _ in ()).throw(InputError("wrong")))
