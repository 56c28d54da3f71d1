"""Whether an exported file returns what the network returns, image by image, from pixels on.

Legend: N images, B batch, D feature, V values of an attribute group.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from reid_accel.errors import InputError
from reid_accel.export.metadata import GraphInfo
from reid_accel.export.mistakes import explanation
from reid_accel.export.pictures import Pictures
from reid_accel.export.runtimes import Arrays, Runtime, as_tensor, run_in_batches
from reid_accel.models.reid import ReIDModel

BATCHES = (1, 2, 7, 32)
EMBEDDING_BATCH = 32
LEAST_COSINE = {"float32": 0.9999, "half": 0.999}
"""For every image, by precision."""
MOST_LENGTH = {"float32": 0.001, "half": 0.01}
"""Largest relative difference of a feature's length."""
MOST_PROBABILITY = {"float32": 0.001, "half": 0.02}
"""Largest difference of an attribute's probability."""
TIE = {"float32": (1e-4, 1e-5), "half": (0.01, 0.005)}
"""Either of two images may come first if their distances differ by less than this share of the distance plus that of a
feature's length: rounding decides there."""


@dataclass(frozen=True)
class Reference:
    """The images of a proof, and what the network returns for them."""

    pictures: Pictures
    images_N3HW: Tensor
    feature_ND: npt.NDArray[np.float32]
    probabilities: Arrays


@dataclass(frozen=True)
class Proof:
    """A file that returned what the network returns."""

    lowest_cosine: float
    num_images: int
    batches: tuple[int, ...] = BATCHES


def reference(model: ReIDModel, pictures: Pictures) -> Reference:
    """What the network returns for the images: features as retrieval compares them, attributes' probabilities."""
    pixels = list(pictures.pixels_NHW3)
    feature_ND = model.embed(pixels, batch_size=EMBEDDING_BATCH).cpu().numpy()
    probabilities: Arrays = []
    if model.architecture.groups:
        named = model.attributes(pixels, batch_size=EMBEDDING_BATCH, probabilities=True)
        probabilities = [
            np.array([list(row[group.name].values()) for row in named], np.float32)
            for group in model.architecture.groups
        ]
    return Reference(pictures, as_tensor(pictures.pixels_NHW3), feature_ND, probabilities)


def prove(runtime: Runtime, model: ReIDModel, wanted: Reference, info: GraphInfo) -> Proof:
    """Run a file on the images of a proof at several batch sizes.

    Raises InputError, which names the image, the batch size, the difference and, where it is known, the mistake, unless
    every feature is the network's, and every image's most similar image the same.
    """
    lowest = 1.0
    for batch_size in BATCHES:
        outputs = _outputs(runtime, wanted, info, batch_size)
        cosine_N = cosines(outputs[0], wanted.feature_ND)
        worst = int(cosine_N.argmin())
        lowest = min(lowest, float(cosine_N[worst]))
        if not lowest >= LEAST_COSINE[info.precision]:  # also for NaN
            why = explanation(model, wanted.images_N3HW, outputs[0], first_batch=batch_size == BATCHES[0])
            raise _refused(
                runtime, wanted, worst, batch_size, f"the cosine with its feature is {cosine_N[worst]:.6f}", why
            )
        _check_lengths(runtime, wanted, info, outputs[0], batch_size)
        _check_first(runtime, wanted, info, outputs[0], batch_size)
        _check_probabilities(runtime, wanted, info, outputs[1:], batch_size)
    return Proof(lowest, len(wanted.feature_ND))


def cosines(first_ND: npt.NDArray[np.float32], second_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The cosine of each pair of rows; that of two zero rows is 1, NaN counts as -1."""
    first, second = first_ND.astype(np.float64), second_ND.astype(np.float64)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    both_zero = (first == 0).all(1) & (second == 0).all(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine_N = np.where(both_zero, 1.0, (first * second).sum(1) / lengths)
    return np.where(np.isfinite(cosine_N), cosine_N, -1.0)


def first_matches(
    feature_ND: npt.NDArray[np.float32], metric: str
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """For each image the most similar other one, and all distances, N x N."""
    feature = feature_ND.astype(np.float64)
    if metric == "cosine":
        feature = feature / np.maximum(np.linalg.norm(feature, axis=1, keepdims=True), 1e-12)
    squares_N = (feature**2).sum(1)
    distance_NN = np.sqrt(np.maximum(squares_N[:, None] + squares_N[None] - 2 * feature @ feature.T, 0))
    np.fill_diagonal(distance_NN, np.inf)
    return distance_NN.argmin(1), distance_NN


def _outputs(runtime: Runtime, wanted: Reference, info: GraphInfo, batch_size: int) -> Arrays:
    """What a file returns, checked for its shape."""
    name = runtime.path.name
    try:
        outputs = run_in_batches(runtime, wanted.images_N3HW, info, batch_size)
    except InputError as error:
        raise InputError(
            f"{name} is not written: its batch size is fixed. {error}; a graph must not hold the number of images that "
            "it was traced with"
        ) from error
    shapes = [wanted.feature_ND.shape, *(part.shape for part in wanted.probabilities[: len(info.attributes)])]
    found = [output.shape for output in outputs]
    if found != shapes:
        raise InputError(f"{name} is not written: its outputs have the shapes {found} instead of {shapes}")
    return outputs


def _check_lengths(
    runtime: Runtime, wanted: Reference, info: GraphInfo, feature_ND: npt.NDArray[np.float32], batch_size: int
) -> None:
    """Raise InputError for features of the right direction and another length: euclidean distances depend on it."""
    length_N = np.linalg.norm(wanted.feature_ND.astype(np.float64), axis=1)
    found_N = np.linalg.norm(feature_ND.astype(np.float64), axis=1)
    if info.unit_length:
        length_N = np.where(length_N > 0, 1.0, 0.0)
    elif info.metric == "cosine":  # the network's own length is not what is compared
        return
    difference_N = np.abs(found_N - length_N) / np.maximum(length_N, 1e-12)
    worst = int(difference_N.argmax())
    if difference_N[worst] > MOST_LENGTH[info.precision]:
        why = "the features are scaled, though their directions are right"
        lengths = f"its feature has the length {found_N[worst]:.6g} instead of {length_N[worst]:.6g}"
        raise _refused(runtime, wanted, worst, batch_size, lengths, why)


def _check_first(
    runtime: Runtime, wanted: Reference, info: GraphInfo, feature_ND: npt.NDArray[np.float32], batch_size: int
) -> None:
    """Raise InputError unless every image's most similar image is the network's, or one just as similar."""
    metric = "cosine" if info.unit_length else info.metric
    right_N, distance_NN = first_matches(wanted.feature_ND, metric)
    found_N, _ = first_matches(feature_ND, metric)
    rows = np.arange(len(right_N))
    gap_N = distance_NN[rows, found_N] - distance_NN[rows, right_N]
    of_distance, of_length = TIE[info.precision]
    length = 1.0 if metric == "cosine" else float(np.linalg.norm(wanted.feature_ND, axis=1).mean())
    allowed_N = of_distance * distance_NN[rows, right_N] + of_length * length
    wrong = np.flatnonzero(gap_N > allowed_N)
    if len(wrong):
        names, row = wanted.pictures.names, int(wrong[0])
        found, right = names[found_N[row]], names[right_N[row]]
        raise _refused(runtime, wanted, row, batch_size, f"its most similar image is {found} instead of {right}", "")


def _check_probabilities(
    runtime: Runtime, wanted: Reference, info: GraphInfo, outputs: Arrays, batch_size: int
) -> None:
    for group, found_NV, right_NV in zip(info.attributes, outputs, wanted.probabilities, strict=False):
        difference_N = np.abs(found_NV - right_NV).max(1)
        worst = int(difference_N.argmax())
        if not difference_N[worst] <= MOST_PROBABILITY[info.precision]:
            difference = f"a probability of the attribute {group.name} differs by {difference_N[worst]:.3g}"
            raise _refused(runtime, wanted, worst, batch_size, difference, "")


def _refused(runtime: Runtime, wanted: Reference, image: int, batch_size: int, difference: str, why: str) -> InputError:
    reason = f": {why}" if why else ""
    return InputError(
        f"{runtime.path.name} is not written, since it does not return what the model returns{reason}. For the image "
        f"{wanted.pictures.names[image]} at batch size {batch_size}, {difference}"
    )
