"""Line charts over the epochs: positions of ticks and points. The page's templates draw them as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 210, 48, 8, 22, 36


@dataclass(frozen=True)
class Curve:
    """A line of a chart: (epoch, value) pairs, at least one."""

    name: str
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        return self.points[-1][1]


class Tick(NamedTuple):
    """A labeled position on an axis."""

    px: float
    label: str


@dataclass(frozen=True)
class Chart:
    """Curves over the epochs in one coordinate system; `unit` labels the vertical axis."""

    title: str
    unit: str
    curves: tuple[Curve, ...]

    width, height, left, right, top, bottom = WIDTH, HEIGHT, LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM

    @cached_property
    def _epochs(self) -> tuple[float, float]:
        epochs = [x for curve in self.curves for x, _ in curve.points]
        return min(epochs), max(epochs)

    @cached_property
    def _values(self) -> list[float]:
        values = [y for curve in self.curves for _, y in curve.points]
        return _nice_ticks(min(0.0, *values), max(values))

    def x_px(self, epoch: float) -> float:
        low, high = self._epochs
        share = 0.5 if high == low else (epoch - low) / (high - low)
        return LEFT + 6 + share * (WIDTH - LEFT - RIGHT - 12)

    def y_px(self, value: float) -> float:
        low, high = self._values[0], self._values[-1]
        return TOP + (1 - (value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM)

    @property
    def x_ticks(self) -> list[Tick]:
        return [Tick(self.x_px(epoch), f"{epoch:g}") for epoch in _epoch_ticks(*self._epochs)]

    @property
    def y_ticks(self) -> list[Tick]:
        return [Tick(self.y_px(value), f"{value:g}") for value in self._values]

    def path(self, curve: Curve) -> str:
        """The points of an SVG polyline."""
        return " ".join(f"{self.x_px(x):.1f},{self.y_px(y):.1f}" for x, y in curve.points)


def chart(title: str, unit: str, curves: Sequence[Curve]) -> Chart | None:
    """A chart of the curves that have points; None if none has any."""
    drawn = tuple(curve for curve in curves if curve.points)
    return Chart(title, unit, drawn) if drawn else None


def _nice_ticks(low: float, high: float) -> list[float]:
    """Three to six round values that enclose `low` and `high`.

    >>> _nice_ticks(0.0, 7.3)
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    span = (high - low) or abs(high) or 1.0
    magnitude = 10.0 ** math.floor(math.log10(span / 4))
    step = next(factor * magnitude for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * magnitude >= span / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _epoch_ticks(low: float, high: float) -> list[float]:
    """The first and the last epoch and a few between, spaced so that labels don't overlap."""
    step = max(1, math.ceil((high - low) / 6))
    inner = [low + index * step for index in range(1 + int((high - low) // step))]
    return [epoch for epoch in inner if high - epoch >= 0.7 * step] + [high]
