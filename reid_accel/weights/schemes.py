"""Which trainer or network a checkpoint is of, told by the names and shapes of its tensors."""

from collections.abc import Callable, Mapping

from torch import Tensor

from reid_accel.errors import InputError, first_line, listed
from reid_accel.weights.mobile import efficientnet_lite, mobilenetv2
from reid_accel.weights.osnets import osnet
from reid_accel.weights.recognized import Recognized, Tensors
from reid_accel.weights.resnets import bag_of_tricks, bare_resnet, fast_reid, moco
from reid_accel.weights.swins import solider
from reid_accel.weights.vits import clip_reid, transreid

SCHEMES: tuple[Callable[[Tensors], Recognized | None], ...] = (
    osnet,
    solider,
    clip_reid,
    transreid,
    bag_of_tricks,
    fast_reid,
    moco,
    bare_resnet,
    efficientnet_lite,
    mobilenetv2,
)
_EXPECTED = (
    "torchreid's OSNet and ResNet (conv1.conv.weight, fc.0.weight), fast-reid (backbone., heads.), Bag of Tricks "
    "(base.conv1.weight), TransReID (base.cls_token), CLIP-ReID (image_encoder.), SOLIDER (backbone.stages.), "
    "LUPerson, IBN-Net and torchvision ResNets (layer1.0.conv1.weight), EfficientNet-Lite (_conv_stem.weight), "
    "MobileNetV2 (features.0.0.weight)"
)
_NOT_BUILT = {
    "NL_": "fast-reid with non-local blocks, which",
    ".se.": "a ResNet with squeeze and excitation, which",
    "b1_head.": "fast-reid's MGN, whose branches",
    "IN.": "a network with instance norm at places that",
}


def recognize(tensors: Tensors, name: str) -> Recognized:
    """The scheme of a checkpoint's tensors; `name` is the file's, for errors.

    Raises InputError for a scheme that isn't known or that has parts which this package doesn't build.
    """
    found = recognized(tensors)
    if found is not None:
        return found
    for part, what in _NOT_BUILT.items():
        if any(part in key for key in tensors):
            raise InputError(f"{name} is {what} this package does not build, so it cannot be imported")
    raise InputError(
        f"{name} is of no scheme that is known here: its {len(tensors):,} tensors are named {listed(tensors)}; known "
        f"are {_EXPECTED}"
    )


def recognized(tensors: Tensors) -> Recognized | None:
    """As `recognize`, but None for an unknown scheme."""
    return next((found for scheme in SCHEMES if (found := _tried(scheme, tensors)) is not None), None)


def _tried(scheme: Callable[[Tensors], Recognized | None], tensors: Tensors) -> Recognized | None:
    """What a scheme makes of the tensors; InputError if it is this one, but a tensor is missing or of another shape."""
    name = scheme.__name__.replace("_", " ")
    try:
        return scheme(tensors)
    except InputError:
        raise
    except KeyError as error:
        raise InputError(
            f"the weights look like those of {name}, but the tensor {error} is missing: the file is a part of it"
        ) from error
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        raise InputError(
            f"the weights look like those of {name}, but a tensor has another shape or name ({first_line(error)}): it "
            "is another variant"
        ) from error


def backbone_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's tensors by our names if another trainer's scheme is recognized, else all as they are."""
    found = recognized(tensors)
    if found is None:
        return dict(tensors)
    ours = found.tensors(tensors)
    return {name.removeprefix("backbone."): value for name, value in ours.items() if name.startswith("backbone.")}


def check_complete(found: Recognized, tensors: Tensors, name: str) -> None:
    """Raise InputError unless each tensor of the file is used, or left out for a reason that is known."""
    unknown = [key for key, reason in found.reasons(tensors).items() if reason is None]
    for part, what in _NOT_BUILT.items():
        if any(part in key for key in unknown):
            raise InputError(f"{name} is {what} this package does not build, so it cannot be imported")
    if unknown:
        raise InputError(
            f"{name} is taken for {found.scheme}, but {len(unknown)} of its tensors belong to nothing that this "
            f"package builds ({listed(unknown)}): it is a variant that cannot be imported"
        )
