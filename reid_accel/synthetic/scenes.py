"""Street scenes behind drawn pedestrians: walls, ground and objects, painted once per camera as a long strip."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from reid_accel.synthetic.pedestrians import Color, blend

SECTION_WIDTH_PX, SECTIONS = 160, 5
SCENE_WIDTH_PX, SCENE_HEIGHT_PX = SECTION_WIDTH_PX * SECTIONS, 176
HORIZON_PX = 104
"""Row of the scene where the ground begins."""
CLUTTER_COLORS = ((176, 44, 44), (44, 84, 156), (228, 188, 52), (40, 110, 70), (60, 60, 64), (222, 222, 218))


def draw_scene(rng: np.random.Generator, number: int) -> Image.Image:
    """A strip of street wider than one image: sections of the camera's own kind alternate with others."""
    scene = Image.new("RGB", (SCENE_WIDTH_PX, SCENE_HEIGHT_PX))
    for section in range(SECTIONS):
        own = section % 2 == 0
        kind = number - 1 if own else int(rng.integers(6))
        scene.paste(_draw_place(rng, kind), (section * SECTION_WIDTH_PX, 0))
    return _weathered(rng, scene)


def _draw_place(rng: np.random.Generator, kind: int) -> Image.Image:
    place = Image.new("RGB", (SECTION_WIDTH_PX, SCENE_HEIGHT_PX))
    draw = ImageDraw.Draw(place)
    walls = (_brick_wall, _trees, _shop_fronts, _parked_cars, _fence, _hall)
    grounds = (_slabs, _lawn, _slabs, _zebra, _lawn, _slabs)
    grounds[kind % len(grounds)](rng, draw)
    walls[kind % len(walls)](rng, draw)
    for _ in range(3):
        _clutter(rng, draw)
    return place


def _weathered(rng: np.random.Generator, scene: Image.Image) -> Image.Image:
    """The street with stains and grain."""
    coarse = rng.normal(0, 6, (SCENE_HEIGHT_PX // 4, SCENE_WIDTH_PX // 4)).astype(np.float32)
    fine = rng.normal(0, 6, (SCENE_HEIGHT_PX, SCENE_WIDTH_PX))
    texture = np.asarray(Image.fromarray(coarse).resize(scene.size), dtype=np.float32) + fine
    pixels = np.asarray(scene, dtype=np.float32) + texture[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _pick(rng: np.random.Generator, colors: Sequence[Color]) -> Color:
    return colors[int(rng.integers(len(colors)))]


def _slabs(rng: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    base = _pick(rng, ((150, 146, 140), (122, 122, 126), (172, 160, 142), (134, 112, 98)))
    draw.rectangle((0, HORIZON_PX, SECTION_WIDTH_PX, SCENE_HEIGHT_PX), fill=base)
    joint = blend(base, (0, 0, 0), 0.3)
    step = int(rng.integers(12, 22))
    for row in range(HORIZON_PX, SCENE_HEIGHT_PX, step // 2):
        draw.line((0, row, SECTION_WIDTH_PX, row), fill=joint)
    for column in range(-80, SECTION_WIDTH_PX + 80, step):
        draw.line((column, HORIZON_PX, column + int(rng.integers(20, 24)), SCENE_HEIGHT_PX), fill=joint)


def _lawn(rng: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((0, HORIZON_PX, SECTION_WIDTH_PX, SCENE_HEIGHT_PX), fill=(96, 128, 64))
    path = int(rng.integers(12, 30))
    draw.rectangle((0, HORIZON_PX + path, SECTION_WIDTH_PX, SCENE_HEIGHT_PX - 8), fill=(168, 152, 122))
    for _ in range(140):
        x, y = rng.uniform(0, SECTION_WIDTH_PX), rng.uniform(HORIZON_PX, HORIZON_PX + path)
        draw.line((x, y, x + rng.normal(0, 1), y - 4), fill=_pick(rng, ((70, 104, 44), (124, 150, 82))))


def _zebra(rng: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    asphalt = int(rng.integers(78, 112))
    draw.rectangle((0, HORIZON_PX, SECTION_WIDTH_PX, SCENE_HEIGHT_PX), fill=(asphalt, asphalt, asphalt + 4))
    for column in range(0, SECTION_WIDTH_PX, 44):
        x, y = column, HORIZON_PX + 16
        draw.polygon(((x, y), (x + 20, y), (x + 34, SCENE_HEIGHT_PX), (x + 6, SCENE_HEIGHT_PX)), fill=(206, 206, 198))


def _brick_wall(rng: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    base = _pick(rng, ((150, 84, 66), (168, 120, 88), (128, 96, 90)))
    draw.rectangle((0, 0, SECTION_WIDTH_PX, HORIZON_PX), fill=blend(base, (200, 196, 188), 0.45))
    for row in range(0, HORIZON_PX, 7):
        for column in range(-14, SECTION_WIDTH_PX, 14):
            x = column + (7 if row % 14 else 0)
            brick = blend(base, (0, 0, 0), float(rng.uniform(0, 0.3)))
            draw.rectangle((x, row, x + 12, row + 5), fill=brick)
    for column in range(30, SECTION_WIDTH_PX, 120):
        draw.rectangle((column, 14, column + 40, 66), fill=(60, 74, 90), outline=(220, 216, 206), width=3)


def _trees(rng: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((0, 0, SECTION_WIDTH_PX, HORIZON_PX), fill=(176, 196, 214))
    for _ in range(18):
        draw_bush(rng, draw, rng.uniform(0, SECTION_WIDTH_PX), HORIZON_PX - rng.uniform(0, 40), 44)
    for column in range(20, SECTION_WIDTH_PX, 70):
        x = column + rng.uniform(-15, 15)
        draw.rectangle((x, 10, x + rng.uniform(6, 12), HORIZON_PX + 6), fill=(84, 62, 46))


def _shop_fronts(rng: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    signs: tuple[Color, ...] = ((190, 40, 44), (38, 92, 170), (232, 180, 40), (36, 128, 84), (230, 230, 226))
    for column in range(0, SECTION_WIDTH_PX, 80):
        wall = _pick(rng, ((206, 198, 184), (180, 174, 168), (216, 190, 150)))
        draw.rectangle((column, 0, column + 80, HORIZON_PX), fill=wall)
        draw.rectangle((column + 2, 8, column + 77, 28), fill=_pick(rng, signs))
        draw.rectangle((column + 8, 36, column + 52, HORIZON_PX - 8), fill=(70, 86, 98))
        draw.rectangle((column + 58, 40, column + 74, HORIZON_PX), fill=_pick(rng, ((90, 60, 40), (60, 66, 72))))
        for _ in range(5):
            x, y = column + rng.uniform(10, 46), rng.uniform(60, 90)
            draw.rectangle((x, y, x + 6, y + rng.uniform(4, 12)), fill=_pick(rng, signs))


def _parked_cars(rng: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((0, 0, SECTION_WIDTH_PX, HORIZON_PX), fill=(168, 176, 184))
    for column in range(0, SECTION_WIDTH_PX, 36):
        draw.rectangle((column + 8, 8, column + 26, 40), fill=(104, 118, 132))
    for column in range(0, SECTION_WIDTH_PX, 104):
        paint = _pick(rng, ((170, 34, 36), (40, 66, 130), (210, 210, 212), (36, 38, 42), (150, 150, 140)))
        x, y = column + rng.uniform(0, 14), HORIZON_PX + 8
        draw.polygon(((x + 16, y - 26), (x + 28, y - 44), (x + 64, y - 44), (x + 78, y - 26)), fill=(56, 68, 80))
        draw.rounded_rectangle((x, y - 28, x + 92, y - 6), 6, fill=paint)
        for wheel in (x + 20, x + 72):
            draw.ellipse((wheel - 9, y - 14, wheel + 9, y + 4), fill=(24, 24, 26))


def _fence(rng: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((0, 0, SECTION_WIDTH_PX, HORIZON_PX), fill=(148, 168, 150))
    for _ in range(8):
        draw_bush(rng, draw, rng.uniform(0, SECTION_WIDTH_PX), HORIZON_PX - 8, 38)
    wood = _pick(rng, ((172, 140, 100), (208, 206, 200), (104, 112, 122)))
    for column in range(0, SECTION_WIDTH_PX, 12):
        draw.rectangle((column, 34, column + 6, HORIZON_PX + 4), fill=blend(wood, (0, 0, 0), rng.uniform(0, 0.2)))
    for row in (48, 84):
        draw.rectangle((0, row, SECTION_WIDTH_PX, row + 5), fill=blend(wood, (0, 0, 0), 0.3))


def _hall(rng: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((0, 0, SECTION_WIDTH_PX, HORIZON_PX), fill=(196, 190, 176))
    for column in range(0, SECTION_WIDTH_PX, 56):
        glass = _pick(rng, ((120, 146, 160), (88, 104, 118), (146, 160, 166)))
        draw.rectangle((column + 6, 4, column + 44, HORIZON_PX - 4), fill=glass)
        draw.rectangle((column + 48, 0, column + 56, HORIZON_PX + 6), fill=(226, 220, 208))
        draw.line((column + 6, 50, column + 44, 50), fill=(70, 74, 78), width=3)
    for row in range(HORIZON_PX - 14, HORIZON_PX + 4, 5):
        draw.line((0, row, SECTION_WIDTH_PX, row), fill=(120, 116, 108), width=2)


def _clutter(rng: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    """A bin, a sign or a plant."""
    x, y = rng.uniform(0, SECTION_WIDTH_PX), HORIZON_PX + rng.uniform(-4, 24)
    wide, tall = rng.uniform(8, 24), rng.uniform(14, 44)
    kind = int(rng.integers(3))
    if kind == 0:
        draw.rounded_rectangle((x, y - tall, x + wide, y), 3, fill=_pick(rng, CLUTTER_COLORS), outline=(40, 40, 40))
    elif kind == 1:
        draw.line((x, y - 70, x, y), fill=(90, 90, 94), width=3)
        draw.ellipse((x - wide / 2, y - 78, x + wide / 2, y - 78 + wide), fill=_pick(rng, CLUTTER_COLORS))
    else:
        draw_bush(rng, draw, x, y, wide)


def draw_bush(rng: np.random.Generator, draw: ImageDraw.ImageDraw, x: float, y: float, size: float) -> None:
    for _ in range(26):
        green = int(rng.integers(60, 140))
        radius = rng.uniform(0.12, 0.25) * size
        cx, cy = x + rng.normal(0, 0.4) * size, y - abs(rng.normal(0, 0.5)) * size
        leaf = (green // 2, green, green // 3)
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=leaf)
