"""TrivialAugment against torchvision's own class of that name."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import TrivialAugmentWide

from reid_accel.augment.ops import augment
from reid_accel.augment.rng import Draws, Stream, uniforms
from reid_accel.augment.trivial_augment import LEVELS, OPERATIONS, Change, change_each, draw_changes
from reid_accel.config.schema import AugmentConfig
from reid_accel.data.images import to_bytes, to_float

FILL = (0.2, 0.4, 0.6)
COLOR = [51.0, 102.0, 153.0]
NAMES = [operation.name for operation in OPERATIONS]
ALWAYS = AugmentConfig(flip_probability=0, pad_px=0, trivial_augment=1)


def pixels(number: int = 6) -> torch.Tensor:
    """Smooth pictures that don't use all of 0..255, so that every operation has something to change."""
    coarse = np.random.default_rng(0).uniform(20, 230, (number, 3, 6, 3))
    smooth = torch.nn.functional.interpolate(torch.from_numpy(coarse), (48, 24), mode="bilinear")
    return smooth.round().to(torch.uint8)


def draws(number: int) -> torch.Tensor:
    return uniforms(0, 0, torch.arange(number), Stream.TRIVIAL_AUGMENT)


def torchvisions(image: torch.Tensor, name: str, strength: float) -> torch.Tensor:
    theirs = TrivialAugmentWide(num_magnitude_bins=LEVELS, fill=COLOR)
    return theirs._apply_image_or_video_transform(image, name, strength, theirs.interpolation, theirs._fill)


def test_the_operations_and_strengths_are_the_papers() -> None:
    published = TrivialAugmentWide._AUGMENTATION_SPACE
    assert set(published) == set(NAMES)
    assert len(OPERATIONS) == len(published) == 14
    for operation in OPERATIONS:
        strengths, signed = published[operation.name]
        expected = strengths(LEVELS, 48, 24)
        assert operation.signed == signed
        assert list(operation.strengths) == ([0.0] * LEVELS if expected is None else expected.tolist())


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_is_torchvisions(name: str) -> None:
    operation = OPERATIONS[NAMES.index(name)]
    given, before = pixels(), pixels()
    signs = (1, -1) if operation.signed else (1,)
    for strength in (sign * operation.strengths[level] for level in (0, 7, 19, LEVELS - 1) for sign in signs):
        changed = change_each(to_float(given), [Change(operation, strength)] * len(given), FILL)
        expected = torch.stack([torchvisions(image, name, strength) for image in given])
        assert torch.equal(to_bytes(changed), expected)
    assert torch.equal(given, before)
    assert torch.equal(expected, given) == (name == "Identity"), "the control: the largest strength changes something"


def test_the_beyond_is_painted_in_the_given_color() -> None:
    shifted = Change(OPERATIONS[NAMES.index("TranslateY")], 32.0)
    changed = change_each(to_float(pixels(1)), [shifted], FILL)
    assert torch.equal(changed[0, :, :32], torch.tensor(FILL).view(3, 1, 1).expand(3, 32, 24))
    assert torch.equal(to_bytes(changed)[0, :, 32:], pixels(1)[0, :, :16])


def test_every_operation_strength_and_sign_is_equally_likely() -> None:
    number = 40_000
    changes = draw_changes(draws(number), 0.7)
    made = [change for change in changes if change is not None]
    assert len(made) / number == pytest.approx(0.7, abs=0.01)
    counts = np.bincount([NAMES.index(change.operation.name) for change in made], minlength=14) / len(made)
    assert np.abs(counts - 1 / 14).max() < 0.007  # standard error 0.0015
    turns = [change.strength for change in made if change.operation.name == "Rotate"]
    levels = np.bincount([round(abs(turn) / 4.5) for turn in turns], minlength=LEVELS) / len(turns)
    assert np.abs(levels - 1 / 31).max() < 0.018  # standard error 0.004
    assert np.mean(np.array(turns) < 0) == pytest.approx(0.48, abs=0.05)  # a level of 31 is 0
    assert all(change.strength >= 0 for change in made if not change.operation.signed)


def test_an_image_is_changed_alike_in_any_batch() -> None:
    given = to_float(pixels(40))
    whole = augment(given, Draws.of(0, 0, torch.arange(40)), ALWAYS, FILL)
    order = torch.tensor([31, 4, 5, 17, 0])
    assert torch.equal(augment(given[order], Draws.of(0, 0, order), ALWAYS, FILL), whole[order])
    assert not torch.equal(augment(given[order], Draws.of(0, 0, torch.arange(5)), ALWAYS, FILL), whole[order])


def test_what_is_not_changed_keeps_its_bits_and_its_place() -> None:
    given = torch.rand(20, 3, 48, 24, generator=torch.Generator().manual_seed(0))
    before, changes = given.clone(), draw_changes(draws(20), 0.5)
    changed = change_each(given, changes, FILL)
    kept = torch.tensor([change is None for change in changes])
    assert torch.equal(changed[kept], given[kept])
    assert 0 < kept.sum() < 20
    assert torch.equal(given, before)
    off = AugmentConfig(flip_probability=0, pad_px=0)
    assert torch.equal(augment(given, Draws.of(0, 0, torch.arange(20)), off, FILL), given)


def test_a_mistaken_number_of_changes_is_caught() -> None:
    with pytest.raises(ValueError, match="zip"):
        change_each(to_float(pixels()), [None] * 5, FILL)
