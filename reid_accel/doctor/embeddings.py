"""What the embeddings of a model tell about a data set: probable label errors, copies across splits, odd images.

Legend: N images of all splits.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from reid_accel.config.doctor import DoctorConfig
from reid_accel.config.scoring import PredictConfig
from reid_accel.data.cache_dir import cache_folder
from reid_accel.data.crop_cache import Decoding
from reid_accel.data.dataset import ImageDataset, decode_images
from reid_accel.data.listing import Listing
from reid_accel.doctor.findings import TRAIN, Finding, Place, number_of
from reid_accel.doctor.neighbors import MOST_MISTAKEN, Neighbors, copies_across, least_similar, suspicion
from reid_accel.doctor.progress import Bar, Done
from reid_accel.models.reid import ReIDModel, load_model, on_device
from reid_accel.retrieval.embed import embed_dataset
from reid_accel.retrieval.features import Embeddings

SHOWN_OUTLIERS = 12


@dataclass(frozen=True)
class Embedded:
    """N usable images of all splits: where they are, and their embeddings."""

    place_N: tuple[Place, ...]
    embeddings: Embeddings


def embedded_findings(config: DoctorConfig, listing: Listing, bar: Bar) -> list[Finding]:
    """Embed all images with the model of the settings, and look at each one's neighbors."""
    assert config.model is not None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = on_device(load_model(config.model, config.model_module), device)
    decoding = Decoding(model.architecture, cache_folder(config.data.cache_dir), "skip")
    splits = {split: _decoded(split, listing, decoding) for split in listing.splits}
    with bar("embedding images", sum(map(len, splits.values()))) as progress:
        embedded = embed_all(model, splits, progress, numbered_apart=listing.numbered_apart)
    return list(neighbor_findings(embedded))


def _decoded(split: str, listing: Listing, decoding: Decoding) -> ImageDataset:
    """A split's readable images, from the same crop cache as training; named by row, since names may occur twice."""
    images, _ = decode_images(
        listing.splits[split],
        listing.groups,
        decoding,
        fingerprint=f"{listing.fingerprint}/{split}",
        title=f"split {split}",
    )
    return replace(images, name_N=tuple(map(str, range(len(images)))))


def embed_all(
    model: ReIDModel, splits: Mapping[str, ImageDataset], progress: Done, *, numbered_apart: bool
) -> Embedded:
    """The embeddings of all splits, as one set."""
    found = {split: embed_dataset(model, images, PredictConfig(), progress)[0] for split, images in splits.items()}
    offset = int(splits[TRAIN].pid_N.max()) if numbered_apart else 0
    pids = [each.pid_N + offset * ((each.pid_N > 0) & (split != TRAIN)) for split, each in found.items()]
    features = torch.cat([each.embedding_SD.cpu() for each in found.values()])
    cameras = np.concatenate([each.camera_N for each in found.values()])
    place_N = tuple(Place(split, int(row)) for split, images in splits.items() for row in images.row_N)
    return Embedded(place_N, Embeddings.of(features, np.concatenate(pids), cameras))


def neighbor_findings(embedded: Embedded) -> Iterator[Finding]:
    """Findings on the nearest images of each image."""
    if len(embedded.place_N) < 3:
        return
    neighbors = Neighbors.of(embedded.embeddings)
    yield from _label_errors(embedded, neighbors)
    yield from _across(embedded, neighbors)
    rows = least_similar(neighbors, SHOWN_OUTLIERS)
    yield Finding(
        "least-similar",
        "note",
        f"these {len(rows)} images are least like any other to the model: wrong crops are often among them",
        "Look at them; remove those that show nobody.",
        tuple((embedded.place_N[row],) for row in rows),
    )


def _label_errors(embedded: Embedded, neighbors: Neighbors) -> Iterator[Finding]:
    suspicious = suspicion(embedded.embeddings, neighbors)
    rows, places = suspicious.suspects(), embedded.place_N
    if suspicious.mistaken > MOST_MISTAKEN and (embedded.embeddings.pid_N > 0).any():
        yield Finding(
            "labels-not-judged",
            "note",
            f"{suspicious.mistaken:.0%} of the images are more similar to somebody else than to their own person: the "
            "model doesn't tell people of this set apart well enough to judge labels",
            "Use a model that was trained on this set, or on similar images.",
        )
    if len(rows):
        in_train = tuple(places[row] for row in rows if places[row].split == TRAIN)
        yield Finding(
            "probable-label-errors",
            "warning",
            f"{number_of(len(rows), 'image looks', 'images look')} far more like somebody else than like "
            f"{'its' if len(rows) == 1 else 'their'} own person ({len(rows) / len(places):.1%}): the label is probably "
            "wrong",
            "Each is shown with the image that it is most like; correct the labels. --fix leaves out those of train "
            f"({len(in_train):,}); test images stay, so that scores remain comparable.",
            tuple((places[row], places[suspicious.else_row_N[row]]) for row in rows),
            in_train,
        )


def _across(embedded: Embedded, neighbors: Neighbors) -> Iterator[Finding]:
    is_train_N = np.array([place.split == TRAIN for place in embedded.place_N])
    pairs = copies_across(is_train_N, neighbors)
    if len(pairs):
        together = tuple((embedded.place_N[train], embedded.place_N[test]) for test, train in pairs.tolist())
        yield Finding(
            "look-alikes-in-train-and-test",
            "warning",
            f"{number_of(len(pairs), 'test image is', 'test images are')} nearly the same as a training image to the "
            "model: they may be crops of the same frame, and their people the same",
            "Each is shown with its training image; remove these people from one side. --fix leaves the training "
            "images out.",
            together,
            tuple(train for train, _ in together),
        )
