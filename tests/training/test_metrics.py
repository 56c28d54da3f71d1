"""Sums and means of an epoch."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from helpers.trainers import trainer

from reid_accel.config.schema import LossConfig
from reid_accel.errors import InputError
from reid_accel.models.outputs import Outputs
from reid_accel.training.dataloader import Batch
from reid_accel.training.metrics import EpochSums, epoch_numbers, require_finite, right_answers


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def example() -> tuple[Outputs, Batch]:
    """Two images: the first with identity, hat and age right, the second with the hat alone and an unknown age."""
    identity_logits = torch.tensor([[[2.0, 1.0]], [[0.0, 5.0]]])
    hat, age = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 0.0, 3.0], [1.0, 0.0, 0.0]])
    outputs = Outputs(torch.zeros(2, 1), torch.zeros(2, 1), identity_logits, (hat, age))
    labels = torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([[0, 2], [1, -1]])
    return outputs, Batch(torch.zeros(2, 3, 1, 1), *labels, torch.tensor([5, 6]))


def test_attributes_count_where_they_are_known() -> None:
    counts = {name: count.item() for name, count in right_answers(*example()).items()}
    assert counts == {"right_identities": 1, "right_attributes": 3, "known_attributes": 3}


def test_means_weigh_micro_batches_by_their_images_and_leave_out_terms_of_weight_0() -> None:
    sums = EpochSums.restored({}, Accelerator())
    for identity in (1.0, 2.0):
        terms = {"identity": torch.tensor(identity), "attributes": torch.tensor(0.5), "center": torch.tensor(0.0)}
        sums = sums.add(terms, torch.tensor(identity + 0.5), *example())
    numbers = epoch_numbers(sums.over_processes(Accelerator()), LossConfig(center=0))
    assert numbers == {
        "loss": 2.0,
        "losses": {"identity": 1.5, "attributes": 0.5},
        "identity_accuracy": 0.5,
        "attribute_accuracy": 1.0,
    }


def test_accuracies_of_what_is_not_trained_are_none() -> None:
    outputs, batch = example()
    sums = EpochSums.restored({}, Accelerator())
    terms = {"identity": torch.tensor(0.0), "triplet": torch.tensor(1.0)}
    sums = sums.add(terms, torch.tensor(1.0), outputs._replace(attribute_logits=()), batch)
    numbers = epoch_numbers(sums.over_processes(Accelerator()), LossConfig(identity=0, triplet=1))
    assert numbers == {"loss": 1.0, "losses": {"triplet": 1.0}, "identity_accuracy": None, "attribute_accuracy": None}


def test_sums_continue_from_a_checkpoint(small_market: Path) -> None:
    built = trainer(small_market)
    sums = EpochSums.restored({}, built.accelerator)
    batches = built.open_batches(built.epoch_batches(0)[:2], epoch=0)
    for step in range(2):
        sums = built.step(batches, step, sums)
    total = sums.over_processes(built.accelerator)
    assert (total["images"], total["finite_losses"]) == (16, 2)
    assert EpochSums.restored(total, built.accelerator).over_processes(built.accelerator) == total


def test_the_first_step_with_a_bad_loss_is_named_and_checkpoints_if_there_are_any(tmp_path: Path) -> None:
    sums = {"loss": float("nan"), "finite_losses": 9.0}
    with pytest.raises(InputError, match=r"not finite at step 104\. Lower"):
        require_finite(sums, first_step=100, parts_per_step=3, checkpoints=tmp_path / "checkpoints")
    (tmp_path / "checkpoints" / "step-00000100").mkdir(parents=True)
    with pytest.raises(InputError, match=r"104\. Earlier checkpoints are intact in .*checkpoints\. Lower"):
        require_finite(sums, first_step=100, parts_per_step=3, checkpoints=tmp_path / "checkpoints")
    require_finite({"loss": 1.0, "finite_losses": 9.0}, 100, 3, tmp_path)
