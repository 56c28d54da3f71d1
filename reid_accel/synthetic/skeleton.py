"""Tools for drawing figures: a 3D view of the body, shapes, and patterned cloth.

Body coordinates are fractions of the person's height: x to the side (right in the image when the person faces the
viewer), y upwards from the soles, z in the direction that the person faces.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, hypot, sin

import numpy as np
from PIL import Image, ImageDraw

from reid_accel.synthetic.pedestrians import Build, Color, Garment

WIDTH_PX, HEIGHT_PX = 64, 128
OVERSAMPLING = 2

Point = tuple[float, float]
Joint = tuple[float, float, float]
Fill = Color | Image.Image
"""A color, or an image of the canvas's size to cut the shape from."""


@dataclass(frozen=True)
class Pose:
    """A person's pose relative to the camera; pixels refer to the final 64x128 image."""

    yaw: float
    """Direction that the person faces, in radians: 0 to the viewer, pi/2 to the right of the image, pi away."""
    phase: float
    """Position in the walking cycle, in radians."""
    stride: float
    """Swing of the legs, in radians; 0 stands still."""
    tilt: float
    """Downward tilt of the camera: image height per depth."""
    center_px: float
    ground_px: float
    height_px: float
    """Height of an adult at this position."""


@dataclass(frozen=True)
class View:
    """From body coordinates to pixels of the oversampled canvas."""

    pose: Pose
    build: Build

    @property
    def scale(self) -> float:
        """Pixels per body height."""
        return self.pose.height_px * self.build.height * OVERSAMPLING

    def depth(self, joint: Joint) -> float:
        """Closeness to the viewer; closer parts are painted later."""
        return joint[2] * cos(self.pose.yaw) - joint[0] * sin(self.pose.yaw)

    def point(self, joint: Joint) -> Point:
        """Pixel of a body point; a stooping person leans forward above the hip."""
        x, y, z = self._stooped(joint)
        across = x * cos(self.pose.yaw) + z * sin(self.pose.yaw)
        up = y - self.pose.tilt * self.depth((x, y, z))
        return (
            self.pose.center_px * OVERSAMPLING + across * self.scale,
            self.pose.ground_px * OVERSAMPLING - up * self.scale,
        )

    def half_width(self, wide: float, deep: float) -> float:
        """Half the width, in pixels, of an upright elliptic column with these half axes."""
        return self.scale * hypot(wide * cos(self.pose.yaw), deep * sin(self.pose.yaw))

    def _stooped(self, joint: Joint) -> Joint:
        x, y, z = joint
        above = max(0.0, (y - self.build.legs) / (1 - self.build.legs))
        lean = self.build.stoop * above
        return x, y - 0.4 * lean * above, z + lean


@dataclass(frozen=True)
class Polygon:
    points: tuple[Point, ...]
    fill: Fill


@dataclass(frozen=True)
class Ellipse:
    center: Point
    radius_x: float
    radius_y: float
    fill: Fill


Shape = Polygon | Ellipse
Part = tuple[float, list[Shape]]
"""Closeness to the viewer, and the shapes to paint."""


def paint(canvas: Image.Image, shape: Shape) -> None:
    if isinstance(shape.fill, Image.Image):
        mask = Image.new("L", canvas.size, 0)
        _outline(ImageDraw.Draw(mask), shape, 255)
        canvas.paste(shape.fill, mask=mask)
    else:
        _outline(ImageDraw.Draw(canvas), shape, (*shape.fill, 255))


def _outline(draw: ImageDraw.ImageDraw, shape: Shape, ink: int | tuple[int, int, int, int]) -> None:
    if isinstance(shape, Polygon):
        draw.polygon(shape.points, fill=ink)
        return
    (x, y), across, up = shape.center, shape.radius_x, shape.radius_y
    draw.ellipse((x - across, y - up, x + across, y + up), fill=ink)


def limb(start: Point, start_radius: float, end: Point, end_radius: float, fill: Fill) -> list[Shape]:
    """A tapering tube with round ends."""
    (x0, y0), (x1, y1) = start, end
    length = hypot(x1 - x0, y1 - y0) or 1.0
    nx, ny = (y1 - y0) / length, (x0 - x1) / length
    sides = (
        (x0 + nx * start_radius, y0 + ny * start_radius),
        (x1 + nx * end_radius, y1 + ny * end_radius),
        (x1 - nx * end_radius, y1 - ny * end_radius),
        (x0 - nx * start_radius, y0 - ny * start_radius),
    )
    return [
        Polygon(sides, fill),
        Ellipse(start, start_radius, start_radius, fill),
        Ellipse(end, end_radius, end_radius, fill),
    ]


def column(view: View, rings: Sequence[tuple[float, float, float]], fill: Fill) -> Polygon:
    """A body of elliptic rings (y, half width, half depth), listed from top to bottom."""
    left, right = [], []
    for y, wide, deep in rings:
        x_px, y_px = view.point((0.0, y, 0.0))
        half = view.half_width(wide, deep)
        left.append((x_px - half, y_px))
        right.append((x_px + half, y_px))
    return Polygon((*left, *reversed(right)), fill)


def between(first: Joint, second: Joint, share: float) -> Joint:
    x, y, z = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return x, y, z


def shoulder_height(build: Build) -> float:
    """Where the arms begin, below head and neck."""
    return 1 - 1.32 * build.head


_ROWS = np.arange(HEIGHT_PX * OVERSAMPLING, dtype=np.float32)[:, None]
_COLUMNS = np.arange(WIDTH_PX * OVERSAMPLING, dtype=np.float32)[None, :]


def garment_fill(garment: Garment, view: View) -> Fill:
    """The garment's color, or its pattern over the canvas, positioned relative to the body."""
    if garment.pattern == "plain":
        return garment.colors[0]
    center, top = view.point((0.0, shoulder_height(view.build), 0.0))
    across = (_COLUMNS - center) / view.scale
    down = (_ROWS - top) / view.scale
    if garment.pattern == "logo":
        index = _logo(across, down, view)
    else:
        around = across + view.pose.yaw * view.build.depth
        index = _PATTERNS[garment.pattern](around / garment.period, down / garment.period)
    full = np.broadcast_to(index, (_ROWS.shape[0], _COLUMNS.shape[1])).astype(np.intp)
    opaque = np.array([(*color, 255) for color in garment.colors], dtype=np.uint8)
    return Image.fromarray(opaque[full % len(opaque)])


_PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "bands": lambda around, down: np.floor(down / 1.6) % 2,
    "stripes": lambda around, down: (down % 1.0) < 0.42,
    "pinstripes": lambda around, down: (around % 0.8) < 0.3,
    "checks": lambda around, down: (np.floor(down * 1.3) + np.floor(around * 1.3)) % 2,
    "dots": lambda around, down: ((around % 1.0 - 0.5) ** 2 + (down % 1.0 - 0.5) ** 2) < 0.1,
    "yoke": lambda around, down: down > 1.9,
    "thirds": lambda around, down: np.floor(down / 1.5),
    "patches": lambda around, down: np.floor(down * 0.8) + 2 * np.floor(around * 0.8 + 0.5),
    "rainbow": lambda around, down: np.floor(down * 1.5),
    "halves": lambda around, down: (around > 0) + (down > 2.4),
}
"""The index of the garment's color at a position, in periods of the pattern."""


def _logo(across: np.ndarray, down: np.ndarray, view: View) -> np.ndarray:
    """A print on the chest that turns with the body."""
    facing = cos(view.pose.yaw)
    if facing < 0.2:
        return np.zeros((1, 1))
    middle = view.build.depth * sin(view.pose.yaw)
    return (np.abs(across - middle) < 0.055 * facing) & (np.abs(down - 0.13) < 0.045)
