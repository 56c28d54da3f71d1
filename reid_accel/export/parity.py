"""Whether an exported file returns what the network returns, image by image, from pixels on.

Legend: N images, B batch, D feature, V values of an attribute group.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from reid_accel.errors import InputError, listed
from reid_accel.export.metadata import GraphInfo
from reid_accel.export.mistakes import UNKNOWN, explanation
from reid_accel.export.pictures import Pictures
from reid_accel.export.runtimes import Arrays, Runtime, as_tensor, run_in_batches
from reid_accel.models.reid import ReIDModel

BATCHES = (1, 2, 7, 32)
EMBEDDING_BATCH = 32
LEAST_COSINE = {"float32": 0.9999, "half": 0.999}
"""For every image, by precision."""
MOST_DIFFERENCE = {"float32": 0.002, "half": 0.045}
"""Largest length of the difference of two features, relative to a feature's. Stricter than the cosine, which 32-bit
runtimes miss by less than 0.0000001; it also sees other lengths, on which euclidean distances depend."""
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
class _Answer:
    """What a file returned for all images, `batch_size` at a time."""

    runtime: Runtime
    wanted: Reference
    info: GraphInfo
    batch_size: int
    outputs: Arrays

    @property
    def metric(self) -> str:
        """The distance that the file's features are for."""
        return "cosine" if self.info.unit_length else self.info.metric

    @property
    def feature_ND(self) -> npt.NDArray[np.float32]:
        return self.outputs[0]

    def refused(self, image: int, difference: str, why: str = "") -> InputError:
        """The error for an image."""
        reason = f": {why}" if why else ""
        return InputError(
            f"{self.runtime.path.name} is not written, since it does not return what the model returns{reason}. For "
            f"the image {self.wanted.pictures.names[image]} at batch size {self.batch_size}, {difference}"
        )


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
        answer = _Answer(runtime, wanted, info, batch_size, _outputs(runtime, wanted, info, batch_size))
        lowest = min(lowest, _check_cosines(answer, model))
        _check_differences(answer)
        _check_first_matches(answer)
        _check_probabilities(answer)
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
    feature = _comparable(feature_ND, metric)
    squares_N = (feature**2).sum(1)
    distance_NN = np.sqrt(np.maximum(squares_N[:, None] + squares_N[None] - 2 * feature @ feature.T, 0))
    np.fill_diagonal(distance_NN, np.inf)
    return distance_NN.argmin(1), distance_NN


def _comparable(feature_ND: npt.NDArray[np.float32], metric: str) -> npt.NDArray[np.float64]:
    feature = feature_ND.astype(np.float64)
    if metric == "cosine":
        feature /= np.maximum(np.linalg.norm(feature, axis=1, keepdims=True), 1e-12)
    return feature


def _outputs(runtime: Runtime, wanted: Reference, info: GraphInfo, batch_size: int) -> Arrays:
    """What a file returns, checked for its shape."""
    name = runtime.path.name
    try:
        outputs = run_in_batches(runtime, wanted.images_N3HW, info, batch_size)
    except InputError as error:
        sizes = [size for size in BATCHES if _takes(runtime, wanted.images_N3HW[:size], info)]
        fixed = f"its batch size is fixed to {listed(sizes)}" if sizes else "it cannot be run"
        raise InputError(f"{name} is not written, since {fixed}: at batch size {batch_size}, {error}") from error
    shapes = [wanted.feature_ND.shape, *(part.shape for part in wanted.probabilities[: len(info.attributes)])]
    found = [output.shape for output in outputs]
    if found != shapes:
        raise InputError(f"{name} is not written: its outputs have the shapes {found} instead of {shapes}")
    return outputs


def _takes(runtime: Runtime, images_B3HW: Tensor, info: GraphInfo) -> bool:
    """Whether a file can be run on a batch, whatever it returns."""
    try:
        run_in_batches(runtime, images_B3HW, info, len(images_B3HW))
    except InputError:
        return False
    return True


def _check_cosines(answer: _Answer, model: ReIDModel) -> float:
    """The lowest cosine of a feature with the network's."""
    cosine_N = cosines(answer.feature_ND, answer.wanted.feature_ND)
    worst = int(cosine_N.argmin())
    if cosine_N[worst] < LEAST_COSINE[answer.info.precision]:
        singly = answer.batch_size == BATCHES[0]
        why = explanation(model, answer.wanted.images_N3HW, answer.feature_ND, singly=singly)
        raise answer.refused(worst, f"the cosine with its feature is {cosine_N[worst]:.6f}", why)
    return float(cosine_N[worst])


def _check_differences(answer: _Answer) -> None:
    """Raise InputError for a feature that is too far from the network's, or has another length."""
    metric = answer.metric
    right_ND = _comparable(answer.wanted.feature_ND, metric)
    found_ND = answer.feature_ND if answer.info.unit_length else _comparable(answer.feature_ND, metric)
    length_N = np.maximum(np.linalg.norm(right_ND, axis=1), 1e-12)
    difference_N = np.linalg.norm(found_ND - right_ND, axis=1) / length_N
    worst = int(difference_N.argmax())
    if difference_N[worst] > MOST_DIFFERENCE[answer.info.precision]:
        share = np.linalg.norm(found_ND[worst]) / length_N[worst]
        scaled = abs(share - 1) > difference_N[worst] / 2
        why = f"its features have other lengths ({share:.4g} times the model's)" if scaled else UNKNOWN
        raise answer.refused(worst, f"the feature differs by {difference_N[worst]:.2g} of its length", why)


def _check_first_matches(answer: _Answer) -> None:
    """Raise InputError unless every image's most similar image is the network's, or one just as similar."""
    right_N, distance_NN = first_matches(answer.wanted.feature_ND, answer.metric)
    found_N, _ = first_matches(answer.feature_ND, answer.metric)
    rows = np.arange(len(right_N))
    nearest_N = distance_NN[rows, right_N]
    of_distance, of_length = TIE[answer.info.precision]
    length = np.linalg.norm(_comparable(answer.wanted.feature_ND, answer.metric), axis=1).mean()
    wrong = np.flatnonzero(distance_NN[rows, found_N] - nearest_N > of_distance * nearest_N + of_length * length)
    if len(wrong):
        row, names = int(wrong[0]), answer.wanted.pictures.names
        found, right = names[found_N[row]], names[right_N[row]]
        raise answer.refused(row, f"the most similar image is {found} instead of {right}")


def _check_probabilities(answer: _Answer) -> None:
    """Raise InputError for an attribute's probability that isn't the network's."""
    parts = zip(answer.info.attributes, answer.outputs[1:], answer.wanted.probabilities, strict=False)
    for group, found_NV, right_NV in parts:
        difference_N = np.abs(found_NV - right_NV).max(1)
        worst = int(difference_N.argmax())
        if not difference_N[worst] <= MOST_PROBABILITY[answer.info.precision]:  # also for NaN
            difference = f"a probability of the attribute {group.name} differs by {difference_N[worst]:.3g}"
            raise answer.refused(worst, difference)
