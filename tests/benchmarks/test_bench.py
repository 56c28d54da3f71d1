"""The benchmarks: they measure what they report; speed is not asserted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.launching import PACKAGE, TINY, launch, read_json
from helpers.trainers import trainer

from reid_accel.bench import main
from reid_accel.benchmarks.counting import copy_rate, count_work, product_rate
from reid_accel.benchmarks.per_image import per_image_input, usual_transform
from reid_accel.benchmarks.training import (
    CROPS,
    INPUT,
    LOOP,
    PER_IMAGE_INPUT,
    PER_IMAGE_LOOP,
    PLAIN,
    RESIDENT,
    Measured,
    TrainingFigures,
    recommended,
    sentences,
)
from reid_accel.config.schema import AugmentConfig, ModelConfig
from reid_accel.errors import InputError

NO_CHANGE = ("--augment.flip-probability=0", "--augment.pad-px=0")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.mark.parametrize("workers", [0, 1])
def test_per_image_input_gives_the_same_batches_but_for_chance(small_market: Path, workers: int) -> None:
    built = trainer(small_market, *NO_CHANGE)
    usual = per_image_input(built.data, built.config, torch.device("cpu"), workers)
    rows = [np.array([3, 0, 7]), np.array([5, 20])]
    for ours, theirs in zip(built.input.batches(rows, 0), usual.batches(rows, 0), strict=True):
        assert torch.equal(ours.identity_B, theirs.identity_B)
        assert torch.equal(ours.attributes_BA, theirs.attributes_BA)
        # Pillow enlarges in integer levels: one level is 0.0175 after normalizing
        assert (ours.images_BCHW - theirs.images_BCHW).abs().max() < 0.02
        assert (ours.images_BCHW - theirs.images_BCHW.roll(1, 0)).abs().max() > 0.2, "the control: another order"


def test_per_image_augmentation_is_as_strong(small_market: Path) -> None:
    """Every setting changes pixels as much on either way: their mean and spread over many draws agree."""
    flags = (
        "--augment.color-jitter=0.3", "--augment.white-balance=0.2", "--augment.erase-probability=0.5",
        "--augment.rotation-degrees=10", "--augment.pad-px=4", "--augment.trivial-augment=0.3",
        "--augment.grayscale-probability=0.2",
    )  # fmt: skip
    built = trainer(small_market, *flags)
    usual = per_image_input(built.data, built.config, torch.device("cpu"))
    torch.manual_seed(0)
    rows = [np.arange(8)]
    ours = torch.stack([next(built.input.batches(rows, epoch)).images_BCHW for epoch in range(150)])
    theirs = torch.stack([next(usual.batches(rows, epoch)).images_BCHW for epoch in range(150)])
    plain = next(trainer(small_market, *NO_CHANGE).input.batches(rows, 0)).images_BCHW
    spread = [(way - plain).square().mean().sqrt().item() for way in (ours, theirs)]
    assert spread[0] == pytest.approx(spread[1], rel=0.1)
    assert (ours.mean((0, 1, 3, 4)) - theirs.mean((0, 1, 3, 4))).abs().max() < 0.03


def test_what_torchvision_lacks_is_refused() -> None:
    with pytest.raises(InputError, match=r"set --augment\.patch-probability 0"):
        usual_transform(ModelConfig(), AugmentConfig(patch_probability=0.5))


def test_work_is_counted_as_by_hand() -> None:
    layer, images = torch.nn.Linear(20, 30, bias=False), torch.rand(8, 20)
    with torch.no_grad():
        operations, traffic = count_work(lambda: layer(images))
    assert operations == 2 * 8 * 20 * 30
    assert traffic == 4 * (8 * 20 + 20 * 30 + 8 * 30)


def test_rates_are_those_of_the_machine() -> None:
    device = torch.device("cpu")
    assert 1e8 < product_rate(device, torch.float32) < 1e14
    assert 1e8 < copy_rate(device) < 1e13


def test_the_smallest_nearly_fastest_batch_is_recommended() -> None:
    assert recommended({8: 50.0, 16: 96.0, 32: 100.0, 64: 99.0}) == 16
    assert recommended({8: 50.0}) == 8


@pytest.mark.parametrize(("ratio", "limit"), [(0.99, "the network limits"), (0.5, "waits for its input")])
def test_the_bottleneck_is_named(ratio: float, limit: str) -> None:
    lines = (Measured(RESIDENT, 100, 1.0), Measured(LOOP, 100 * ratio, ratio))
    figures = TrainingFigures("x", "no", lines, 100, 1, 1, 0.5, 0.5, {8: 50.0}, 8)
    assert limit in sentences(figures, on_gpu=False)[0]


@pytest.mark.launch
@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.long), 2])
def test_training_is_measured_in_real_processes(small_market: Path, tmp_path: Path, processes: int) -> None:
    flags = [*TINY, "--data.name=market-layout", f"--data.root={small_market}", f"--data.cache-dir={tmp_path}"]
    done = launch(
        PACKAGE / "bench.py", "train", "--steps=2", "--vs-pil", "--vs-plain", "--json=figures.json", *flags,
        "--train.batch-size=8", "--data.validation-share=0", folder=tmp_path, processes=processes,
    )  # fmt: skip
    figures = read_json(tmp_path / "figures.json")
    titles = [line["title"] for line in figures["lines"]]
    assert titles == [RESIDENT, LOOP, INPUT, CROPS, PER_IMAGE_LOOP, PER_IMAGE_INPUT, PLAIN]
    assert all(line["images_per_second"] > 0 and line["ratio"] > 0 for line in figures["lines"])
    assert figures["lines"][0]["ratio"] == 1
    assert (figures["recommended_batch"] is not None) == (processes == 1)
    assert f"{processes} process(es)" in done.stdout
    assert "full loop, real data" in done.stdout


def test_retrieval_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["retrieval", "--quick", "--json", str(tmp_path / "figures.json")])
    plain, reranked = read_json(tmp_path / "figures.json")
    for line in (plain, reranked):
        assert line["mean_ap"] == pytest.approx(line["plain_mean_ap"], abs=1e-6)
        assert 0.05 < line["mean_ap"] < 0.999
    assert "300 x 3,000 x 256" in capsys.readouterr().out


def test_listing_is_measured_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "place"
    made.mkdir()
    figures = tmp_path / "figures.json"
    main(["listing", "--files=200", "--store-files=30", f"--folder={made}", f"--json={figures}"])
    lines = {line["title"].strip(): line for line in read_json(figures)}
    assert lines["listing, with the lines below"]["rows"] == 200
    assert lines["training set in memory"]["rows"] == 100
    assert lines["decoding into the crop store"]["rows"] == 30
    assert all(line["seconds"] > 0 for line in lines.values())
    assert "200 files" in capsys.readouterr().out
    assert list(made.iterdir()) == []
    with pytest.raises(SystemExit):
        main(["listing", "--files=3"])
    assert "at least 20" in capsys.readouterr().err
    assert list(made.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [([], "usage:"), (["nothing"], "usage:"), (["retrieval", "--train.epochs=3"], "Unrecognized options")],
)
def test_a_wrong_command_is_explained(arguments: list[str], answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert answer in capsys.readouterr().err


def test_a_missing_gpu_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as left:
        main(["retrieval", "--quick", "--device", "cuda"])
    assert left.value.code == 2
    assert "no CUDA device found" in capsys.readouterr().err
