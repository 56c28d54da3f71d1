"""Several data sets trained on together: identities side by side, attributes where they are known."""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np

from reid_accel.attributes.vocabulary import UNKNOWN
from reid_accel.data.builders import BASE_COLUMNS, without_progress_bars
from reid_accel.errors import InputError


def joined(main: datasets.Dataset, others: Mapping[str, datasets.Dataset]) -> tuple[datasets.Dataset, int]:
    """The rows of several sets' training splits as one, the others' by name, then the main one's; and the largest
    person number of the others.

    People of different sets are different people: each set's person numbers begin after the former's largest. Attribute
    groups are those of all sets; unknown where a set hasn't annotated one. The others' image names get the set's
    before them.
    Raises InputError when two sets mean different things by the same attribute.
    """
    features = dict(main.features)
    for name, table in others.items():
        for column, feature in table.features.items():
            if column not in BASE_COLUMNS and features.setdefault(column, feature) != feature:
                raise InputError(
                    f"data.also: the attribute {column} has the values {', '.join(feature.names)} in {name} and "
                    f"{', '.join(features[column].names)} elsewhere; these sets can't be trained on together"
                )
    with without_progress_bars():
        return _stacked([*others.items(), ("", main)], datasets.Features(features))


def _stacked(
    tables: Sequence[tuple[str, datasets.Dataset]], features: datasets.Features
) -> tuple[datasets.Dataset, int]:
    fitting, largest, before = [], 0, 0
    for name, table in tables:
        before = largest
        pid_N = np.asarray(table.with_format("numpy")["pid"][:], np.int64)
        changed: dict[str, Any] = {
            "pid": np.where(pid_N > 0, pid_N + largest, pid_N),
            "name": [f"{name}/{image}" if name else image for image in table["name"]],
            **{column: np.full(len(table), UNKNOWN) for column in features.keys() - table.features.keys()},
        }
        largest += max(0, int(pid_N.max(initial=0)))
        whole = table.remove_columns([column for column in changed if column in table.column_names])
        for column, values in changed.items():
            whole = whole.add_column(column, list(values))
        fitting.append(whole.select_columns(list(features)).cast(features))
    return datasets.concatenate_datasets(fitting, split=tables[-1][1].split), before
