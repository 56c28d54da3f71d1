"""Line charts over the epochs, as SVG inside the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reid_accel.reporting.html.markup import Markup, joined, text


@dataclass(frozen=True)
class Curve:
    """A line of a chart: (epoch, value) pairs; `style` picks color and dashes."""

    name: str
    style: str
    points: tuple[tuple[float, float], ...]


WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 190, 44, 8, 10, 24


def chart(title: str, curves: Sequence[Curve]) -> Markup:
    """A line chart as SVG with its legend; nothing where there is no value at all."""
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return Markup()
    epochs = [x for curve in curves for x, _ in curve.points]
    values = [y for curve in curves for _, y in curve.points]
    x_low, x_high = min(epochs), max(epochs)
    ticks = _nice_ticks(min(0.0, *values), max(values))

    def x_px(x: float) -> float:
        share = 0.5 if x_high == x_low else (x - x_low) / (x_high - x_low)
        return LEFT + 6 + share * (WIDTH - LEFT - RIGHT - 12)

    def y_px(y: float) -> float:
        return TOP + (1 - (y - ticks[0]) / (ticks[-1] - ticks[0])) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_px(tick):.1f}" y2="{y_px(tick):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y_px(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in ticks
    ]
    parts += [
        f'<text x="{x_px(epoch):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{epoch:g}</text>'
        for epoch in _epoch_ticks(x_low, x_high)
    ]
    for curve in curves:
        path = " ".join(f"{x_px(x):.1f},{y_px(y):.1f}" for x, y in curve.points)
        parts.append(f'<polyline class="{curve.style}" points="{path}"/>')
        if len(curve.points) == 1:
            x, y = curve.points[0]
            parts.append(f'<circle class="{curve.style}" cx="{x_px(x):.1f}" cy="{y_px(y):.1f}" r="3"/>')
    return _figure(title, curves, parts)


def _figure(title: str, curves: Sequence[Curve], parts: Sequence[str]) -> Markup:
    described = "; ".join(f"{curve.name} ends at {curve.points[-1][1]:.3g}" for curve in curves)
    legend = joined(
        Markup(
            f'<li><svg viewBox="0 0 22 8" aria-hidden="true"><line class="{curve.style}" x1="1" x2="21" '
            f'y1="4" y2="4"/></svg>{text(curve.name)} <b>{curve.points[-1][1]:.3g}</b></li>'
        )
        for curve in (curves if len(curves) > 1 else ())
    )
    return Markup(
        f'<figure class="chart"><figcaption>{text(title)}</figcaption><ul class="legend">{legend}</ul>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(title)} by epoch: '
        f'{text(described)}">{"".join(parts)}</svg></figure>'
    )


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
    """The first and last epoch and a few whole ones between, none so near the last that they touch."""
    step = max(1, math.ceil((high - low) / 6))
    inner = [low + index * step for index in range(1 + int((high - low) // step))]
    return [epoch for epoch in inner if high - epoch >= 0.7 * step] + [high]
