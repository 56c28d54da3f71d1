from pathlib import Path

import numpy as np
import pytest
import torch

from reid_accel.attributes.matching import missing_groups_warning, shared_groups
from reid_accel.attributes.vocabulary import MARKET_GROUPS, AttributeGroup
from reid_accel.config.schema import ModelConfig, ScoreConfig
from reid_accel.course.predictions import write_predictions
from reid_accel.course.submission import check_classification, check_rank_lists
from reid_accel.data.crop_cache import CropCache
from reid_accel.data.dataset import ImageDataset
from reid_accel.data.listing import ImageFile
from reid_accel.data.paths import Paths
from reid_accel.errors import InputError
from reid_accel.evaluation.evaluate import (
    attribute_entry,
    draw_queries,
    retrieval_entries,
    score_variants,
    score_within,
)
from reid_accel.evaluation.rank_lists import Pictured, rank_lists
from reid_accel.models.reid import Architecture
from reid_accel.retrieval.embed import AttributePredictions
from reid_accel.retrieval.features import Embeddings


def labeled(split: str, pids: list[int], cameras: list[int], places: list[float]) -> Pictured:
    number = len(pids)
    crops = np.zeros((number, 3, 4, 2), np.uint8)
    images = ImageDataset(
        path_N=Paths.of((Path(),) * number),
        name_N=tuple(f"{split}{row}.jpg" for row in range(number)),
        pid_N=np.array(pids),
        camera_N=np.array(cameras),
        tracklet_N=np.full(number, -1),
        attributes_NA=np.empty((number, 0), np.int64),
        row_N=np.arange(number),
        groups=(),
        crop_cache=CropCache(crops, {}),
    )
    features = torch.tensor(places).view(-1, 1)
    return Pictured(images, Embeddings.of(features, images.pid_N, images.camera_N, images.name_N))


def market() -> tuple[Pictured, Pictured]:
    query = labeled("q", [1, 2], [1, 1], [0.0, 10.0])
    #                          own camera, wrong, right; junk nearest of all
    return query, labeled("g", [1, 9, 1, -1, 2], [1, 2, 2, 2, 2], [0.1, 0.2, 0.3, 0.0, 10.0])


def test_market_scores_by_hand() -> None:
    query, gallery = market()
    scores = score_variants(query.embeddings, gallery.embeddings, "euclidean", ScoreConfig())
    assert scores[0].ap_Q.tolist() == [0.5, 1.0]
    (entry,) = retrieval_entries("q", "g", scores, flip=True, crops=5)
    stamps = {
        retrieval_entries("q", "g", scores, flip=True, crops=5, edition=name)[0]["stamp"] for name in ("V1", "V2")
    }
    assert stamps == {f"{entry['stamp']} edition=V1", f"{entry['stamp']} edition=V2"}, "not comparable"
    assert entry["mAP"] == pytest.approx(0.75)
    assert entry["split"] == "q → g"
    assert entry["stamp"].endswith("flip=averaged crops=5")


def test_variants_are_scored_besides_the_plain_scores() -> None:
    query = labeled("q", [1, 2], [1, 1], [1.0, 10.0])
    gallery = labeled("g", [1, 9, 1, 3, 2], [1, 2, 2, 2, 2], [0.1, 0.2, 0.3, 0.4, 10.0])
    config = ScoreConfig(rerank=True, query_expansion=2, average_precision="trapezoid")
    scores = score_variants(query.embeddings, gallery.embeddings, "euclidean", config)
    assert [(each.rerank is None, each.query_expansion is None) for each in scores] == [
        (True, True), (False, True), (True, False),
    ]  # fmt: skip
    assert {each.average_precision for each in scores} == {"trapezoid"}


def test_course_protocol_keeps_the_query_and_strict_removes_it() -> None:
    validation = labeled("v", [1, 1, 2, 2], [1, 1, 1, 1], [0.0, 5.0, 1.0, 6.0]).embeddings
    config = ScoreConfig(validation_queries=4)
    kept = score_within(validation, "course", "euclidean", config, seed=0)
    strict = score_within(validation, "course-strict", "euclidean", config, seed=0)
    assert kept is not None
    assert strict is not None
    # every query's neighbors: somebody else at 1, its own person at 5 -> ranks 1 and 3 of 4, or 2 and 3 of 3
    assert strict[1].ap_Q.tolist() == pytest.approx([0.5, 1 / 3, 1 / 3, 0.5])
    assert kept[1].ap_Q.tolist() == pytest.approx([(1 + 2 / 3) / 2, (1 + 2 / 4) / 2, (1 + 2 / 4) / 2, (1 + 2 / 3) / 2])
    assert strict[0].source_row_N is not None
    assert strict[0].source_row_N.tolist() == [0, 1, 2, 3]


def test_drawn_queries_are_people_and_follow_the_seed() -> None:
    validation = labeled("v", [0, -1] * 5 + [1, 1] * 50, [1] * 110, [0.0] * 110).embeddings
    config = ScoreConfig(validation_queries=20)
    first, again, other = (draw_queries(validation, "course", config, seed) for seed in (0, 0, 1))
    assert len(set(first.tolist())) == 20
    assert first.min() >= 10
    assert first.tolist() == again.tolist() != other.tolist()


def test_people_of_one_image_cannot_validate() -> None:
    validation = labeled("v", [1, 2, 3], [1, 2, 3], [0.0, 1.0, 2.0]).embeddings
    assert score_within(validation, "course-strict", "euclidean", ScoreConfig(), seed=0) is None


def test_rank_lists_show_what_the_protocol_ranks() -> None:
    query = labeled("q", [1, 2, 3], [1, 1, 1], [0.0, 10.0, 20.0])
    gallery = labeled("g", [1, 9, 1, -1, 2], [1, 2, 2, 2, 2], [0.1, 0.2, 0.3, 0.0, 10.0])
    scores = score_variants(query.embeddings, gallery.embeddings, "euclidean", ScoreConfig())[0]
    best, worst = rank_lists(query, gallery, scores, number=1)
    assert [found.name for found in worst[0].matches] == ["g1.jpg", "g2.jpg", "g4.jpg"]
    assert [found.correct for found in worst[0].matches] == [False, True, False]
    assert (best[0].num_hits, worst[0].num_hits) == (1, 1)
    assert (best[0].query.name, best[0].average_precision) == ("q1.jpg", 1.0)


@pytest.mark.parametrize("protocol", ["course", "course-strict"])
def test_rank_lists_of_drawn_queries_leave_the_query_out(protocol: str) -> None:
    validation = labeled("v", [1, 1, 2, 2, 9], [1, 1, 1, 1, 1], [0.0, 5.0, 1.0, 6.0, 50.0])
    scored = score_within(validation.embeddings, protocol, "euclidean", ScoreConfig(validation_queries=3), seed=1)
    assert scored is not None
    queries, scores = scored
    assert queries.source_row_N is not None
    drawn = validation.images.select(queries.source_row_N)
    best, worst = rank_lists(Pictured(drawn, queries), validation, scores, number=3)
    for found in (*best, *worst):
        assert found.query.name not in [match.name for match in found.matches]
        assert (len(found.matches), found.num_hits) == (4, 0 if found.query.pid == 9 else 1)


def attribute_images(groups: tuple[AttributeGroup, ...], labels: list[list[int]], pid: int = 1) -> ImageDataset:
    files = [ImageFile(Path(f"{row}.jpg"), f"{row}.jpg", pid, 1, tuple(label)) for row, label in enumerate(labels)]
    return ImageDataset.of_files(files, groups, None)


def test_vocabularies_must_fit() -> None:
    assert shared_groups(MARKET_GROUPS, ()) == ()
    assert shared_groups(MARKET_GROUPS, MARKET_GROUPS) == MARKET_GROUPS
    changed = (AttributeGroup("age", ("young", "ancient")), *MARKET_GROUPS[1:])
    with pytest.raises(
        InputError, match=r"values differ of age \(the data has ancient, the model young, teenager, adult, old\)"
    ):
        shared_groups(MARKET_GROUPS, changed)


def test_only_what_model_and_data_share_is_scored_and_the_rest_is_named() -> None:
    shoes, hat = AttributeGroup("shoes", ("boots", "clogs")), AttributeGroup("hat", ("no", "cap", "yes"))
    of_data = AttributeGroup("hat", ("yes", "no"))  # another order of fewer values
    bag = AttributeGroup("bag", ("no", "yes"))
    images = attribute_images((bag, of_data), [[0, 0], [1, 1], [0, -1], [1, 0]])
    predicted = AttributePredictions(np.array([[0, 2], [0, 0], [0, 0], [0, 0]]), torch.zeros(4))
    entry = attribute_entry("gallery", images, predicted, images, (shoes, hat))
    assert entry is not None
    assert [group["name"] for group in entry["per_group"]] == ["hat"]
    assert (entry["per_group"][0]["accuracy"], entry["per_group"][0]["num_images"]) == (2 / 3, 3)
    assert list(entry["conventions"]) == ["1 group", "3 binaries"]
    sentence = missing_groups_warning((shoes, hat), images.groups)
    assert sentence is not None
    assert "shoes (without labels of the test images)" in sentence
    assert "bag (not predicted by the model)" in sentence
    assert missing_groups_warning((shoes, hat), (hat, shoes)) is None
    alike = missing_groups_warning((shoes, hat), (shoes, AttributeGroup("Hat", ("no", "yes"))))
    assert alike is not None
    assert "spelled alike but different: hat and Hat; rename them" in alike
    assert attribute_entry("gallery", images, predicted, images, (shoes,)) is None


def test_people_are_what_decides_about_the_headline() -> None:
    hat = (AttributeGroup("hat", ("no", "yes")),)
    predicted = AttributePredictions(np.array([[0], [1]]), torch.zeros(2))
    with_people, without = (attribute_images(hat, [[0], [1]], pid) for pid in (1, -2))
    entries = [attribute_entry("test", images, predicted, images, hat, "v2") for images in (with_people, without)]
    assert ["headline" in entry for entry in entries if entry] == [False, True]
    assert entries[1] is not None
    assert (entries[1]["headline"], entries[1]["protocol"]) == ("1 binary", "PAR, 1 binary, v2")


def test_prediction_files_pass_the_validator(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    queries = labeled("q", [-2] * 3, [-1] * 3, [0.0, 5.0, 9.0])
    test = labeled("t", [-2] * 12, [-1] * 12, [float(place) for place in range(12)])
    indices = np.stack([rng.integers(0, len(group.values), 12) for group in MARKET_GROUPS], 1)
    attributes = AttributePredictions(indices, torch.arange(12.0))
    architecture = Architecture(model=ModelConfig(backbone="resnet18"), groups=MARKET_GROUPS)
    written = write_predictions(
        tmp_path,
        queries.embeddings,
        test.embeddings,
        attributes,
        architecture,
        ScoreConfig(rank_list_length=5),
    )
    files = {"reid_test.txt", "classification_test.csv", "attributes.csv", "junk_scores.tsv"}
    assert {path.name for path in written} == files
    names = test.images.name_N
    assert check_classification(tmp_path / "classification_test.csv", names) == []
    assert check_rank_lists(tmp_path / "reid_test.txt", names, queries.images.name_N, length=5) == []
    assert (tmp_path / "reid_test.txt").read_text().splitlines()[1] == "q1.jpg: t5.jpg, t4.jpg, t6.jpg, t3.jpg, t7.jpg"
