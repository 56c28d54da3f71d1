from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_accel.attributes.vocabulary import MARKET_GROUPS, AttributeGroup
from reid_accel.config.schema import ModelConfig, ScoreConfig
from reid_accel.course.predictions import write_predictions
from reid_accel.course.submission import check_classification, check_rank_lists
from reid_accel.data.crop_cache import CropCache
from reid_accel.data.dataset import ImageDataset
from reid_accel.errors import InputError
from reid_accel.evaluation.evaluate import (
    LabeledSet,
    draw_queries,
    rank_lists,
    require_fitting_vocabulary,
    score_pair,
    score_within,
)
from reid_accel.models.reid import Architecture
from reid_accel.retrieval.embed import Predictions


def labeled(split: str, pids: list[int], cameras: list[int], places: list[float]) -> LabeledSet:
    number = len(pids)
    crops = np.zeros((number, 3, 4, 2), np.uint8)
    images = ImageDataset(
        path_N=(Path(),) * number,
        name_N=tuple(f"{split}{row}.jpg" for row in range(number)),
        pid_N=np.array(pids),
        camera_N=np.array(cameras),
        attributes_NA=np.empty((number, 0), np.int64),
        row_N=np.arange(number),
        groups=(),
        crop_cache=CropCache(crops, {}),
    )
    features, attributes = torch.tensor(places).view(-1, 1), torch.empty((number, 0), dtype=torch.int64)
    return LabeledSet(split, images, Predictions(features, range(number), attributes, features[:, 0]))


def test_market_scores_by_hand() -> None:
    query = labeled("q", [1, 2], [1, 1], [0.0, 10.0])
    #                          own camera, wrong, right; junk nearest of all
    gallery = labeled("g", [1, 9, 1, -1, 2], [1, 2, 2, 2, 2], [0.1, 0.2, 0.3, 0.0, 10.0])
    entries, scores = score_pair(query, gallery, "euclidean", ScoreConfig())
    assert scores.ap_Q.tolist() == [0.5, 1.0]
    assert entries[0]["mAP"] == pytest.approx(0.75)
    assert entries[0]["split"] == "q → g"


def test_course_protocol_keeps_the_query_and_strict_removes_it() -> None:
    validation = labeled("v", [1, 1, 2, 2], [1, 1, 1, 1], [0.0, 5.0, 1.0, 6.0])
    config = ScoreConfig(validation_queries=4)
    kept = score_within(validation, "course", "euclidean", config, seed=0)
    strict = score_within(validation, "course-strict", "euclidean", config, seed=0)
    assert kept is not None
    assert strict is not None
    # every query's neighbors: somebody else at 1, its own person at 5 -> ranks 1 and 3 of 4, or 2 and 3 of 3
    assert strict[1].ap_Q.tolist() == pytest.approx([0.5, 1 / 3, 1 / 3, 0.5])
    assert kept[1].ap_Q.tolist() == pytest.approx([(1 + 2 / 3) / 2, (1 + 2 / 4) / 2, (1 + 2 / 4) / 2, (1 + 2 / 3) / 2])


def test_drawn_queries_are_people_and_follow_the_seed() -> None:
    validation = labeled("v", [0, -1] * 5 + [1, 1] * 50, [1] * 110, [0.0] * 110).images
    config = ScoreConfig(validation_queries=20)
    first, again, other = (draw_queries(validation, "course", config, seed) for seed in (0, 0, 1))
    assert len(set(first.tolist())) == 20
    assert first.min() >= 10
    assert first.tolist() == again.tolist() != other.tolist()


def test_people_of_one_image_cannot_validate() -> None:
    validation = labeled("v", [1, 2, 3], [1, 2, 3], [0.0, 1.0, 2.0])
    assert score_within(validation, "course-strict", "euclidean", ScoreConfig(), seed=0) is None


def test_rank_lists_show_what_the_protocol_ranks() -> None:
    query = labeled("q", [1, 2, 3], [1, 1, 1], [0.0, 10.0, 20.0])
    gallery = labeled("g", [1, 9, 1, -1, 2], [1, 2, 2, 2, 2], [0.1, 0.2, 0.3, 0.0, 10.0])
    _, scores = score_pair(query, gallery, "euclidean", ScoreConfig())
    best, worst = rank_lists(query, gallery, scores, number=1)
    assert [found.name for found in worst[0].matches] == ["g1.jpg", "g2.jpg", "g4.jpg"]
    assert [found.correct for found in worst[0].matches] == [False, True, False]
    assert (best[0].query.name, best[0].average_precision) == ("q1.jpg", 1.0)


def test_vocabularies_must_fit() -> None:
    require_fitting_vocabulary(MARKET_GROUPS, ())
    require_fitting_vocabulary(MARKET_GROUPS, MARKET_GROUPS)
    changed = (AttributeGroup("age", ("young", "old")), *MARKET_GROUPS[1:])
    with pytest.raises(InputError, match="age differ"):
        require_fitting_vocabulary(MARKET_GROUPS, changed)


def test_prediction_files_pass_the_validator(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    queries = labeled("q", [-2] * 3, [-1] * 3, [0.0, 5.0, 9.0])
    test = labeled("t", [-2] * 12, [-1] * 12, [float(place) for place in range(12)])
    indices = np.stack([rng.integers(0, len(group.values), 12) for group in MARKET_GROUPS], 1)
    predictions = replace(test.predictions, attribute_NA=torch.from_numpy(indices))
    architecture = Architecture(model=ModelConfig(backbone="resnet18"), groups=MARKET_GROUPS)
    written = write_predictions(
        tmp_path,
        (queries.images, queries.predictions),
        (test.images, predictions),
        architecture,
        ScoreConfig(rank_list_length=5),
        is_main_process=True,
    )
    assert {path.name for path in written} == {"reid_test.txt", "classification_test.csv", "junk_scores.tsv"}
    names = test.images.name_N
    assert check_classification(tmp_path / "classification_test.csv", names) == []
    assert check_rank_lists(tmp_path / "reid_test.txt", names, queries.images.name_N, length=5) == []
    assert (tmp_path / "reid_test.txt").read_text().splitlines()[1] == "q1.jpg: t5.jpg, t4.jpg, t6.jpg, t3.jpg, t7.jpg"
