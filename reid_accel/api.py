"""Training from Python, e.g. in a notebook.

    import reid_accel

    config = reid_accel.recipe("quickstart", train={"epochs": 3}, run={"name": "notebook"})
    run = reid_accel.train_model(config)
    print(run.folder, run.report["retrieval"][0]["mAP"])
    features = run.model.embed(["a.jpg", "b.jpg"])

To use your own backbone, register it with timm (`timm.models.register_model`) and pass its name as
`model={"backbone": ...}`. (The function isn't called `train` because the package has a module of that name.)
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_accel.config.parse import recipe_config
from reid_accel.config.recipes import DEFAULT_RECIPE
from reid_accel.config.schema import Config
from reid_accel.data.cache_dir import cache_folder
from reid_accel.data.tables import Tables, listing_of
from reid_accel.distributed.setup import process_group_scope
from reid_accel.errors import InputError, explaining_os_errors
from reid_accel.files import read_text
from reid_accel.models.reid import ReIDModel, load_model
from reid_accel.preflight import check_training
from reid_accel.reporting.schema import Report
from reid_accel.train import train
from reid_accel.training.additions import Additions, Loss


@dataclass(frozen=True)
class TrainedRun:
    """A finished run: its folder, its report (report.json), and its best model, on the CPU."""

    folder: Path
    report: Report
    model: ReIDModel


def recipe(name: str = DEFAULT_RECIPE, **sections: Mapping[str, Any]) -> Config:
    """The settings of a recipe (a packaged name or a YAML file) with changes: `recipe("bot", train={"epochs": 3})`.

    Raises InputError for unknown settings and impossible values.
    """
    config = recipe_config(Config, name)
    for section, changes in sections.items():
        known = {field.name for field in dataclasses.fields(getattr(config, section, config))}
        if not hasattr(config, section) or not set(changes) <= known:
            unknown = sorted(set(changes) - known) if hasattr(config, section) else [section]
            raise InputError(f"there is no setting {unknown[0]} in {section}; there are {', '.join(sorted(known))}")
    changed = {name: dataclasses.replace(getattr(config, name), **changes) for name, changes in sections.items()}
    return dataclasses.replace(config, **changed)


def train_model(
    config: Config,
    *,
    data: Tables | None = None,
    losses: Mapping[str, Loss] | None = None,
) -> TrainedRun:
    """Train, evaluate and package a model, as the script train.py does.

    data: an own data set, instead of `config.data.name`: a `datasets.DatasetDict` with the splits train, query and
    gallery and the columns image, pid and camera; every further ClassLabel column is an attribute (see `load`).
    losses: own loss terms by name, each a function of the network's `Outputs` and the `Batch` to a scalar, which is
    added to the loss. Raises InputError when the settings or the data can't be used.
    """
    listing = None
    with process_group_scope(config.run.stall_minutes) as watchdog, explaining_os_errors():
        if data is not None:
            listing = listing_of(data, cache_folder(config.data.cache_dir) / "own_tables")
        check_training(config)
        folder = train(config, watchdog, Additions(listing, losses or {}))
    report = json.loads(read_text(folder / "report.json"))
    return TrainedRun(folder, report, load_model(folder / "model"))
