"""Training from Python: the example of the documentation, and what needs no fork."""

from pathlib import Path
from typing import Any

import datasets
import pytest
import timm
import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState

import reid_accel
from reid_accel.api import TrainedRun
from reid_accel.config.schema import Config
from reid_accel.errors import InputError
from reid_accel.models.outputs import Outputs
from reid_accel.training.dataloader import Batch

MODEL = {"backbone": "test_resnet", "height_px": 64, "width_px": 32}


def small(folder: Path, **sections: dict[str, object]) -> Config:
    """The quickstart, as small as it gets."""
    sections = {
        "data": {"synthetic_identities": 20, "cache_dir": str(folder / "cache")},
        "model": MODEL,
        "train": {"epochs": 1},
        "run": {"dir": str(folder / "run"), "mixed_precision": "no", "cpu_threads": 1},
        "score": {"shown_queries": 1},
    } | sections
    return reid_accel.recipe("quickstart", **sections)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    AcceleratorState._reset_state(reset_partial_state=True)  # of tests before


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    run = reid_accel.train_model(small(tmp_path))
    assert run.folder == tmp_path / "run"
    assert 0 < run.report["retrieval"][0]["mAP"] <= 1
    picture = next((tmp_path / "cache").rglob("query/*.jpg"), None) or next((tmp_path / "cache").rglob("query/*"))
    assert run.model.embed([picture, picture]).shape == (2, run.model.feature_size)
    assert run.model.attributes(picture)[0]["hat"] in ("no", "yes")
    with pytest.raises(InputError, match="already holds a run"):
        reid_accel.train_model(small(tmp_path))


def test_runs_of_one_process_can_have_different_precisions(small_market: Path, tmp_path: Path) -> None:
    data = {"name": "market-layout", "root": str(small_market), "cache_dir": str(tmp_path), "validation_share": 0.2}
    more = {"data": data, "model": MODEL | {"width_px": 64}, "train": {"epochs": 1, "batch_size": 8}}

    def train(precision: str) -> TrainedRun:
        run = {"dir": str(tmp_path / precision), "mixed_precision": precision, "cpu_threads": 1}
        return reid_accel.train_model(small(tmp_path, run=run, **more))

    with pytest.raises(InputError, match="precision fp16 needs a GPU"):
        train("fp16")
    for precision in ("no", "bf16"):
        assert train(precision).report["hardware"]["mixed_precision"] == precision
    callers = Accelerator(mixed_precision="bf16")
    assert (
        reid_accel.train_model(
            small(tmp_path, run={"dir": str(tmp_path / "beside"), "mixed_precision": "no", "cpu_threads": 1}, **more)
        ).report["hardware"]["mixed_precision"]
        == "no"
    )
    assert callers.mixed_precision == Accelerator().mixed_precision == "bf16"
    AcceleratorState._reset_state(reset_partial_state=True)


@timm.models.register_model
def a_users_backbone(pretrained: bool = False, **settings: Any) -> nn.Module:
    """A network that only this file knows; timm passes what a backbone is asked for, e.g. num_classes 0."""
    known = {name: value for name, value in settings.items() if name in ("num_classes", "global_pool")}
    return timm.create_model("test_resnet", **known)


def test_own_backbone_loss_and_data_need_no_fork(small_market: Path, tmp_path: Path) -> None:
    tables = reid_accel.load("market-layout", small_market, cache_dir=tmp_path / "tables")
    in_memory = datasets.DatasetDict({split: table.map(embed_bytes) for split, table in tables.items()})
    seen: list[int] = []

    def spread(outputs: Outputs, batch: Batch) -> torch.Tensor:
        seen.append(len(batch.identity_B))
        return 0.1 * F.cosine_similarity(outputs.feature_BD[:-1], outputs.feature_BD[1:]).mean()

    config = small(
        tmp_path,
        model=MODEL | {"backbone": "a_users_backbone"},
        data={"cache_dir": str(tmp_path / "cache"), "validation_share": 0.2},
        train={"epochs": 1, "batch_size": 8},
    )
    run = reid_accel.train_model(config, data=in_memory, losses={"spread": spread})
    assert set(seen) == {8}
    assert run.report["data"]["splits"]["query"]["images"] == len(in_memory["query"])
    (line,) = run.report["training"]["history"]
    assert set(line["losses"]) == {"identity", "spread"}
    assert line["loss"] == pytest.approx(sum(line["losses"].values()), rel=1e-5)


def embed_bytes(row: dict[str, object]) -> dict[str, object]:
    """The row with its image in memory, without a file."""
    return {"image": row["image"].copy()}  # type: ignore[attr-defined]


def test_recipes_take_changes_and_refuse_unknown_ones() -> None:
    config = reid_accel.recipe("bot", train={"epochs": 3})
    assert (config.train.epochs, config.train.images_per_identity) == (3, 4)
    with pytest.raises(InputError, match="there is no setting epoch in train"):
        reid_accel.recipe("bot", train={"epoch": 3})
    with pytest.raises(InputError, match="there is no setting trian in trian; there are augment, data"):
        reid_accel.recipe("bot", trian={"epochs": 3})
    with pytest.raises(InputError, match=r"train\.epochs must be positive"):
        reid_accel.recipe("bot", train={"epochs": 0})
