"""Identities of drawn pedestrians: attributes, proportions, clothes and their exact colors, from one generator.

Everything here is sampled once per identity and is the same under every camera, so it identifies the person.
`figures.py` draws it.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reid_accel.attributes.vocabulary import LOWER_COLORS, MARKET_GROUPS, MULTICOLOR, UPPER_COLORS

Color = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

# ranges of hue, saturation and value for each color name
COLOR_RANGES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "black": ((0.0, 1.0), (0.0, 0.3), (0.05, 0.17)),
    "white": ((0.0, 1.0), (0.0, 0.08), (0.86, 1.0)),
    "gray": ((0.0, 1.0), (0.0, 0.1), (0.36, 0.64)),
    "red": ((-0.03, 0.02), (0.7, 0.95), (0.5, 0.88)),
    "pink": ((0.89, 0.96), (0.3, 0.6), (0.78, 0.98)),
    "purple": ((0.74, 0.82), (0.4, 0.75), (0.38, 0.7)),
    "yellow": ((0.12, 0.17), (0.6, 0.92), (0.72, 0.97)),
    "blue": ((0.55, 0.67), (0.45, 0.9), (0.32, 0.8)),
    "green": ((0.26, 0.43), (0.4, 0.85), (0.28, 0.65)),
    "brown": ((0.05, 0.09), (0.4, 0.65), (0.26, 0.48)),
}

SKINS: tuple[Color, ...] = ((246, 212, 186), (232, 190, 158), (205, 156, 120), (160, 112, 80), (104, 70, 50))
HAIRS: tuple[Color, ...] = ((24, 20, 20), (58, 38, 26), (104, 66, 36), (186, 146, 84), (128, 52, 26))

# "plain" is three times as likely as each pattern; the patterns are distinguishable even under blur
PATTERNS = ("plain", "plain", "plain", "bands", "stripes", "pinstripes", "checks", "dots", "logo", "yoke")
MIXED_PATTERNS = ("thirds", "patches", "rainbow", "halves")


@dataclass(frozen=True)
class Build:
    """Proportions as fractions of the person's height: lengths along the body, half widths across."""

    head: float
    shoulder: float
    waist: float
    hip: float
    depth: float
    legs: float
    limb: float
    stoop: float
    height: float
    """Height relative to an adult's."""


@dataclass(frozen=True)
class Garment:
    """One piece of clothing: its colors (the first is the annotated one) and their pattern."""

    colors: tuple[Color, ...]
    pattern: str
    period: float
    """Period of the pattern, as a fraction of the person's height."""


@dataclass(frozen=True)
class Person:
    """One identity: its annotation, and what distinguishes it from others with the same attributes."""

    attributes: tuple[int, ...]
    """Class index in each of `MARKET_GROUPS`."""
    build: Build
    upper: Garment
    lower: Garment
    skin: Color
    hair: Color
    shoes: Color
    hat: Color
    backpack: Color
    bag: Color
    handbag: Color
    hat_style: int
    hair_length: float
    sleeve_length: float
    leg_length: float
    side: int
    """+1 or -1: the side on which bags are carried."""
    cane: bool

    def value(self, group: str) -> str:
        """The value of one attribute group by name: `person.value("hat")` is `"no"` or `"yes"`."""
        position = [candidate.name for candidate in MARKET_GROUPS].index(group)
        return MARKET_GROUPS[position].values[self.attributes[position]]

    def has(self, group: str) -> bool:
        """Whether the yes/no attribute `group` (hat, backpack, bag, handbag) is yes."""
        return self.value(group) == "yes"


def sample_person(rng: np.random.Generator) -> Person:
    """Sample one identity; the same generator state gives the same person."""
    values = sample_attributes(rng)
    old = values["age"] == "old"
    return Person(
        attributes=attribute_indices(values),
        build=sample_build(rng, values["age"], values["gender"]),
        upper=sample_garment(rng, values["upper_color"], PATTERNS),
        lower=sample_garment(rng, values["lower_color"], ("plain",) * 12 + ("stripes", "checks", "bands")),
        skin=mix_colors(rng, SKINS),
        hair=_gray(rng) if old else mix_colors(rng, HAIRS),
        shoes=_any_color(rng, ["black", "white", "brown", "gray", "red", "blue"]),
        hat=_any_color(rng, ["black", "white", "red", "blue", "yellow", "green"]),
        backpack=_any_color(rng, ["black", "red", "blue", "green", "gray", "yellow", "purple"]),
        bag=_any_color(rng, ["black", "brown", "white", "red", "green", "blue"]),
        handbag=_any_color(rng, ["black", "brown", "white", "red", "pink", "yellow"]),
        hat_style=int(rng.integers(3)),
        hair_length=float(rng.uniform(0.55, 1.0)),
        sleeve_length=float(rng.uniform(0.45, 0.8)),
        leg_length=float(rng.uniform(0.0, 1.0)),
        side=int(rng.choice([-1, 1])),
        cane=bool(old and rng.random() < 0.6),
    )


def sample_attributes(rng: np.random.Generator) -> dict[str, str]:
    """A value for each of `MARKET_GROUPS`, about as frequent as in Market-1501, but with rare values less rare."""
    female = _chance(rng, 0.45)
    age = str(rng.choice(["young", "teenager", "adult", "old"], p=[0.1, 0.42, 0.36, 0.12]))
    dress = female and _chance(rng, 0.4)
    backpack = _chance(rng, 0.28)
    bag = _chance(rng, 0.08 if backpack else 0.3)
    handbag = age != "young" and _chance(rng, 0.24 if female else 0.08)
    upper = ["black", "white", "red", "purple", "yellow", "gray", "blue", "green", MULTICOLOR]
    lower = ["black", "white", "pink", "purple", "yellow", "gray", "blue", "green", "brown", MULTICOLOR]
    return {
        "gender": "female" if female else "male",
        "age": age,
        "clothes": "dress" if dress else "pants",
        "down": "short" if _chance(rng, 0.7 if dress else 0.4) else "long",
        "up": "short" if _chance(rng, 0.65) else "long",
        "hair": "long" if _chance(rng, 0.75 if female else 0.07) else "short",
        "hat": "yes" if _chance(rng, 0.1) else "no",
        "backpack": "yes" if backpack else "no",
        "bag": "yes" if bag else "no",
        "handbag": "yes" if handbag else "no",
        "upper_color": str(rng.choice(upper, p=[0.15, 0.2, 0.11, 0.06, 0.07, 0.12, 0.1, 0.09, 0.1])),
        "lower_color": str(rng.choice(lower, p=[0.27, 0.08, 0.06, 0.04, 0.04, 0.16, 0.16, 0.05, 0.09, 0.05])),
    }


def attribute_indices(values: dict[str, str]) -> tuple[int, ...]:
    """Class index in each of `MARKET_GROUPS` for values given by name."""
    return tuple(group.values.index(values[group.name]) for group in MARKET_GROUPS)


def sample_build(rng: np.random.Generator, age: str, gender: str) -> Build:
    """Proportions that show age (a child's large head, an old person's stoop) and gender."""
    head, shoulder, waist, hip, legs, limb, height = {
        "young": (0.205, 0.108, 0.098, 0.098, 0.42, 0.034, 0.8),
        "teenager": (0.15, 0.106, 0.074, 0.082, 0.5, 0.029, 0.97),
        "adult": (0.14, 0.128, 0.1, 0.098, 0.49, 0.037, 1.0),
        "old": (0.15, 0.118, 0.112, 0.104, 0.46, 0.035, 0.93),
    }[age]
    wide, narrow, round_ = (0.9, 0.8, 1.06) if gender == "female" else (1.08, 1.0, 0.94)
    girth = rng.uniform(0.86, 1.2)
    return Build(
        head=head * rng.uniform(0.95, 1.05),
        shoulder=shoulder * wide * (0.5 + 0.5 * girth),
        waist=waist * narrow * girth,
        hip=hip * round_ * girth,
        depth=0.068 * girth,
        legs=legs * rng.uniform(0.95, 1.05),
        limb=limb * (0.4 + 0.6 * girth) * (0.92 if gender == "female" else 1.05),
        stoop=rng.uniform(0.1, 0.16) if age == "old" else 0.0,
        height=height * rng.uniform(0.95, 1.04),
    )


def sample_garment(rng: np.random.Generator, color: str, patterns: Sequence[str]) -> Garment:
    """A garment of the given color; `multicolor` gets three clearly different colors."""
    period = float(rng.uniform(0.05, 0.085))
    if color == MULTICOLOR:
        vivid = ["red", "yellow", "blue", "green", "white", "purple", "pink", "black"]
        names = [str(name) for name in rng.choice(vivid, size=3, replace=False)]
        pattern = str(rng.choice(MIXED_PATTERNS))
        return Garment(tuple(named_color(rng, name) for name in names), pattern, period)
    main = named_color(rng, color)
    return Garment((main, _contrast(rng, main)), str(rng.choice(patterns)), period)


def named_color(rng: np.random.Generator, name: str) -> Color:
    """A random shade of one of Market-1501's colors."""
    assert name in {*UPPER_COLORS, *LOWER_COLORS}
    hue, saturation, value = (float(rng.uniform(*limits)) for limits in COLOR_RANGES[name])
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _any_color(rng: np.random.Generator, names: Sequence[str]) -> Color:
    return named_color(rng, str(rng.choice(names)))


def mix_colors(rng: np.random.Generator, colors: Sequence[Color]) -> Color:
    """A random color between two neighbors in the list."""
    start = int(rng.integers(len(colors) - 1))
    return blend(colors[start], colors[start + 1], float(rng.random()))


def blend(first: Color, second: Color, share: float) -> Color:
    """`first` for share 0, `second` for share 1, in between otherwise."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _contrast(rng: np.random.Generator, color: Color) -> Color:
    """The second color of a pattern: clearly lighter or darker."""
    dark = sum(color) < 330
    return blend(color, (255, 255, 255) if dark else (10, 10, 20), float(rng.uniform(0.45, 0.75)))


def _gray(rng: np.random.Generator) -> Color:
    return blend((150, 150, 152), (232, 232, 228), float(rng.random()))


def _chance(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)
