"""Every kind of file that is read: an intact specimen, and the product's own way of reading it.

What a reader returns is a pair. The first part must not change whatever happens to the file; the second may, since the
file's format has no checksum and what it holds is the user's: pixels, settings, labels.
"""

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import reid_accel.score as score_script
import reid_accel.train as train_script
from helpers.forked import in_a_child
from helpers.made_sets import make_market, make_msmt17
from helpers.tiny_runs import settings
from reid_accel.attributes.annotations import write_course_csv, write_market_mat
from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.cli import main as command
from reid_accel.config.parse import parse, to_dict
from reid_accel.config.recipes import recipe_path
from reid_accel.config.schema import Config, DataConfig, ModelConfig, ScoreConfig
from reid_accel.course.submission import write_classification, write_rank_lists
from reid_accel.data.crop_cache import Decoding
from reid_accel.data.dataset import open_unlabeled
from reid_accel.data.forms.layouts import Course, Layout, MarketLayout, Msmt17
from reid_accel.data.open import open_data
from reid_accel.distributed.setup import process_group_scope
from reid_accel.evaluation.saved_features import score_saved_features
from reid_accel.models.backbone import starting_weights
from reid_accel.models.reid import load_model
from reid_accel.preflight import training_settings
from reid_accel.training.checkpoint import newest_checkpoint, read_checkpoint
from reid_accel.training.progress import Progress

SIZE = ModelConfig(backbone="test_resnet", pretrained=False, height_px=64, width_px=32)
IMAGE_FORMATS = {"jpg": "JPEG", "png": "PNG", "bmp": "BMP", "webp": "WEBP", "gif": "GIF", "tif": "TIFF"}
Read = Callable[[Path], tuple[Any, Any]]


@dataclass(frozen=True)
class Specimen:
    """A file in a folder, and how that folder is read. place: where the intact one lies."""

    kind: str
    place: Path
    file: str
    read: Read
    may_be_renamed: bool = False


def specimens(folder: Path) -> list[Specimen]:
    """All of them, below a folder that has `market` and the results of `make_results`."""
    return [
        *_images(folder / "images"),
        Specimen("recipe", _recipe(folder / "recipe"), "recipe.yaml", _read_recipe),
        *_annotations(folder),
        *_market_names(folder / "named"),
        *_model(folder),
        *_checkpoint(folder),
        *(Specimen("saved features", folder / "features", path.name, read_features)
          for path in sorted((folder / "features").iterdir())),
        *_crop_cache(folder / "cached"),
        *_submission(folder / "submission"),
    ]  # fmt: skip


def make_results(folder: Path) -> None:
    """A finished run, and its saved features."""
    make_market(folder / "market", identities=14, images=4)
    whole = folder / "whole"
    train = partial(train_script.main, settings(folder, whole))
    score = partial(score_script.main, [*scoring(folder, folder / "features"), f"--dir={folder / 'scored'}"])
    for work in (train, score):
        done = in_a_child(work, folder / "made.txt")
        assert done.code == 0, done.said


def scoring(folder: Path, features: Path) -> list[str]:
    """Settings that score the finished run's model and save features."""
    return [
        f"--model={folder / 'whole/model'}", "--data.name=market-layout", f"--data.root={folder / 'market'}",
        f"--data.cache-dir={folder / 'whole'}.cache", f"--features={features}",
    ]  # fmt: skip


def digest(*parts: Any) -> str:
    """A hash of arrays, tensors and anything with a repr."""
    found = hashlib.sha256()
    for part in parts:
        array = part.detach().cpu().numpy() if isinstance(part, torch.Tensor) else part
        found.update(np.ascontiguousarray(array).tobytes() if isinstance(array, np.ndarray) else repr(part).encode())
    return found.hexdigest()[:16]


def _images(folder: Path) -> Iterable[Specimen]:
    rng = np.random.default_rng(3)
    for ending, name in IMAGE_FORMATS.items():
        place = folder / ending
        place.mkdir(parents=True)
        for number in range(3):
            image = Image.fromarray(rng.integers(0, 256, (80, 40, 3), np.uint8))
            exif = Image.Exif()
            exif[0x0112] = 6 if name == "JPEG" else 1
            image.save(place / f"{number}.{'png' if ending in ('gif', 'tif') else ending}", name, exif=exif)
        file = f"1.{'png' if ending in ('gif', 'tif') else ending}"
        yield Specimen(f"{name} image", place, file, _read_images("error"))
        yield Specimen(f"{name} image", place, file, _read_images("skip"))


def _read_images(on_bad_image: str) -> Read:
    def read(folder: Path) -> tuple[Any, Any]:
        images, _ = open_unlabeled(folder, Decoding(SIZE, folder.with_name("decoded"), on_bad_image))
        rows = zip(images.path_N, images.row_N, strict=True)
        crops = {path.stem: digest(images.crops.crops_N3HW[row]) for path, row in rows}
        return [crops["0"], crops["2"]], crops.get("1") if on_bad_image == "error" else None

    return read


def _recipe(folder: Path) -> Path:
    folder.mkdir()
    shutil.copy(recipe_path("bot"), folder / "recipe.yaml")
    return folder


def _read_recipe(folder: Path) -> tuple[Any, Any]:
    return None, to_dict(parse(Config, ["--config", str(folder / "recipe.yaml"), "--data.root", "x"]))


def _annotations(folder: Path) -> Iterable[Specimen]:
    rng = np.random.default_rng(5)
    people = {pid: tuple(int(rng.integers(len(group.values))) for group in MARKET_GROUPS) for pid in range(1, 13)}
    market = make_market(folder / "annotated")
    write_market_mat(market / "market_attribute.mat", *({pid: people[pid] for pid in half} for half in halves()))
    yield Specimen("annotation", market, "market_attribute.mat", _read_listing(MarketLayout()))
    course = folder / "course"
    shutil.copytree(market / "bounding_box_train", course / "train")
    for split, source in (("queries", "query"), ("test", "bounding_box_test")):
        shutil.copytree(market / source, course / split)
    write_course_csv(course / "annotations_train.csv", people)
    yield Specimen("annotation", course, "annotations_train.csv", _read_listing(Course()))
    msmt17 = make_msmt17(folder / "msmt17")
    yield Specimen("list file", msmt17, "list_train.txt", _read_listing(Msmt17()))
    yield Specimen("list file", msmt17, "list_query.txt", _read_listing(Msmt17()))


def halves() -> tuple[range, range]:
    """The people of `make_market`'s halves."""
    return range(1, 7), range(7, 13)


def _read_listing(layout: Layout) -> Read:
    def read(folder: Path) -> tuple[Any, Any]:
        listing = layout.read(folder)
        images = [(split, *image[1:]) for split in sorted(listing.splits) for image in listing.splits[split]]
        people = len(listing.groups) if isinstance(layout, MarketLayout) else None  # no attributes without a word
        return people, images

    return read


def _market_names(folder: Path) -> Iterable[Specimen]:
    make_market(folder)
    names = {path.name for path in folder.rglob("*.png")}
    for file in ("bounding_box_train/0002_c2s1_000001_00.png", "query/0008_c1s1_000000_00.png"):
        yield Specimen("file name", folder, file, _read_names(names - {Path(file).name}), may_be_renamed=True)


def _read_names(others: set[str]) -> Read:
    def read(folder: Path) -> tuple[Any, Any]:
        data = open_data(_market_at(folder, folder.with_name("decoded")), SIZE)
        rows = [
            (split, images.name_N[row], int(images.pid_N[row]), int(images.camera_N[row]))
            for split, images in sorted(data.splits.items())
            for row in range(len(images))
        ]
        return sorted(row for row in rows if row[1] in others), rows

    return read


def _market_at(root: Path, cache: Path) -> DataConfig:
    return DataConfig(name="market-layout", root=str(root), cache_dir=str(cache))


def _model(folder: Path) -> Iterable[Specimen]:
    for file in ("config.json", "model.safetensors"):
        yield Specimen("saved model", folder / "whole/model", file, read_model)
    (folder / "weights").mkdir()
    shutil.copy(folder / "whole/model/model.safetensors", folder / "weights")
    yield Specimen("weights file", folder / "weights", "model.safetensors", _read_weights)


def read_model(folder: Path) -> tuple[Any, Any]:
    """What a saved model makes of an image."""
    image = np.random.default_rng(1).integers(0, 256, (70, 30, 3), np.uint8)
    return digest(load_model(folder).embed(image)), None


def _read_weights(folder: Path) -> tuple[Any, Any]:
    weights = starting_weights(ModelConfig(backbone="test_resnet", weights_file=str(folder / "model.safetensors")))
    return None, digest(*(value for _, value in sorted((weights or {}).items())))


def _checkpoint(folder: Path) -> Iterable[Specimen]:
    run = folder / "whole"
    newest = max((run / "checkpoints").iterdir())
    for path in (*sorted(newest.iterdir()), run / "metrics.jsonl"):
        yield Specimen("checkpoint", run, str(path.relative_to(run)), _read_run(folder))


def _read_run(folder: Path) -> Read:
    """What `--run.resume auto` starts from."""

    def read(run: Path) -> tuple[Any, Any]:
        flags = [*settings(folder, run)[:-1], f"--run.dir={run}", "--run.resume=auto"]
        flags[flags.index(f"--data.cache-dir={run}.cache")] = f"--data.cache-dir={folder / 'whole'}.cache"
        with process_group_scope() as watchdog:
            prepared, progress = train_script.prepare(training_settings(flags), watchdog)
        state = prepared.trainer.state
        tensors = [state.model.state_dict(), state.ema.state_dict() if state.ema is not None else {}]
        moments = [values for _, values in sorted(state.optimizer.state_dict()["state"].items())]
        sums = [digest(*(entry for pair in sorted(one.items()) for entry in pair)) for one in (*tensors, *moments)]
        return [asdict(progress), sums], None

    return read


def read_checkpoints(folder: Path) -> tuple[Any, Any]:
    """The newest intact checkpoint's progress and settings, read without building a run."""
    newest = newest_checkpoint(folder / "checkpoints")
    if newest is None:
        return None, None
    content = read_checkpoint(newest).content
    return [content, asdict(Progress.from_json(content["progress"]))], None


def read_features(folder: Path) -> tuple[Any, Any]:
    """The scores of saved features."""
    entries, features = score_saved_features(folder, ScoreConfig(), torch.device("cpu"))
    return [entries, [digest(one.name_N, one.pid_N, one.camera_N) for one in features.values()]], None


def _crop_cache(folder: Path) -> Iterable[Specimen]:
    make_market(folder)
    made = in_a_child(lambda: _read_cache(folder), folder.with_name("made.txt"))
    assert made.code == 0, made.said
    caches = sorted((folder / "cache/crops").iterdir())
    for path in caches[0], caches[-1]:
        for file in ("crops.npy", "index.json"):
            yield Specimen("crop cache", folder, str((path / file).relative_to(folder)), _read_cache)


def _read_cache(folder: Path) -> tuple[Any, Any]:
    data = open_data(_market_at(folder, folder / "cache"), SIZE)
    return [[split, digest(images.crops.crops_N3HW, images.name_N)] for split, images in data.splits.items()], None


def _submission(folder: Path) -> Iterable[Specimen]:
    folder.mkdir()
    names = [f"{number:06d}.jpg" for number in range(60)]
    values_NA = np.stack([np.random.default_rng(2).integers(0, len(g.values), 60) for g in MARKET_GROUPS], axis=1)
    write_classification(folder / "classification_test.csv", names, values_NA)
    write_rank_lists(folder / "reid_test.txt", ["q0.jpg", "q1.jpg"], [names[:50], names[10:]])
    for file in ("classification_test.csv", "reid_test.txt"):
        yield Specimen("submission file", folder, file, _check_submission(file))


def _check_submission(file: str) -> Read:
    def read(folder: Path) -> tuple[Any, Any]:
        try:
            command(["check-submission", str(folder / file)])
        except SystemExit as ending:
            if ending.code:
                sys.exit(2 if ending.code == 1 else ending.code)  # 1: it lists problems, each in a sentence
        return None, None

    return read
