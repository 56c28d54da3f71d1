"""Drawing a pedestrian: body, head, hair, hat and luggage, painted from back to front."""

from math import cos, sin

from PIL import Image

from reid_accel.synthetic.body import Figure, arm_joints, arms, legs, torso
from reid_accel.synthetic.pedestrians import Color, Person, blend
from reid_accel.synthetic.skeleton import (
    HEIGHT_PX,
    OVERSAMPLING,
    WIDTH_PX,
    Ellipse,
    Joint,
    Part,
    Point,
    Polygon,
    Pose,
    Shape,
    View,
    garment_fill,
    limb,
    paint,
    shoulder_height,
)


def draw_person(person: Person, pose: Pose) -> Image.Image:
    """The person on a transparent background: RGBA, 64x128 px."""
    canvas = Image.new("RGBA", (WIDTH_PX * OVERSAMPLING, HEIGHT_PX * OVERSAMPLING), (0, 0, 0, 0))
    view = View(pose, person.build)
    upper, lower = garment_fill(person.upper, view), garment_fill(person.lower, view)
    sleeve = upper if isinstance(upper, Image.Image) else blend(upper, (0, 0, 0), 0.1)
    figure = Figure(person, view, upper, sleeve, lower)
    parts = [*legs(figure), *torso(figure), *arms(figure), *_head(figure), *_luggage(figure)]
    for _, shapes in sorted(parts, key=lambda part: part[0]):
        for shape in shapes:
            paint(canvas, shape)
    return canvas.reduce(OVERSAMPLING)


def _head(figure: Figure) -> list[Part]:
    person, view = figure.person, figure.view
    build, yaw = person.build, view.pose.yaw
    half = build.head / 2
    center = view.point((0.0, 1 - half, 0.015))
    tall = half * view.scale
    wide = 0.8 * tall
    shapes: list[Shape] = [Ellipse((center[0], center[1] - 0.06 * tall), 1.08 * wide, 1.0 * tall, person.hair)]
    facing = cos(yaw)
    if facing > -0.5:
        shapes += _face(figure, center, wide, tall)
    else:
        nape = Ellipse((center[0], center[1] + 0.62 * tall), 0.62 * wide, 0.36 * tall, person.skin)
        shapes = [nape, *shapes[:1]] if person.value("hair") == "short" else shapes
    parts: list[Part] = [(0.3, shapes)]
    if person.value("hair") == "long":
        parts += _long_hair(figure, center, wide, tall)
    if person.has("hat"):
        parts.append((0.32, _hat(figure, center, wide, tall)))
    return parts


def _face(figure: Figure, center: Point, wide: float, tall: float) -> list[Shape]:
    """Skin below the hairline, and the visible parts of eyes and mouth."""
    person, view = figure.person, figure.view
    aside, facing = sin(view.pose.yaw), max(cos(view.pose.yaw), -0.5)
    breadth = wide * (0.62 + 0.34 * max(facing, 0.0))
    middle = (center[0] + 0.36 * aside * wide, center[1] + 0.24 * tall)
    shapes: list[Shape] = [Ellipse(middle, breadth, 0.76 * tall, person.skin)]
    if facing < -0.1:
        return shapes
    for eye in (-0.42, 0.42):
        angle_x = eye * facing + 0.75 * aside
        if abs(angle_x) < 0.95:
            spot = (center[0] + angle_x * wide, center[1] + 0.12 * tall)
            shapes.append(Ellipse(spot, 0.1 * wide, 0.09 * tall, (40, 28, 26)))
    mouth = (center[0] + 0.7 * aside * wide, center[1] + 0.6 * tall)
    shapes.append(Ellipse(mouth, 0.26 * wide * max(facing, 0.4), 0.05 * tall, blend(person.skin, (150, 40, 40), 0.6)))
    return shapes


def _long_hair(figure: Figure, center: Point, wide: float, tall: float) -> list[Part]:
    """Hair behind the shoulders, and a strand on either side of the face."""
    person, view = figure.person, figure.view
    length = (1.0 + 1.5 * person.hair_length) * tall
    behind = center[0] - 0.45 * sin(view.pose.yaw) * wide
    breadth = wide * (0.85 + 0.3 * abs(cos(view.pose.yaw)))
    fall = Polygon(
        (
            (behind - breadth, center[1] - 0.1 * tall),
            (behind + breadth, center[1] - 0.1 * tall),
            (behind + 1.05 * breadth, center[1] + 0.9 * length),
            (behind + 0.5 * breadth, center[1] + length),
            (behind - 0.5 * breadth, center[1] + length),
            (behind - 1.05 * breadth, center[1] + 0.9 * length),
        ),
        person.hair,
    )
    away = cos(view.pose.yaw) < 0.25
    parts: list[Part] = [(0.29 if away else -0.03, [fall])]
    if not away:
        locks: list[Shape] = [
            shape
            for side in (-1, 1)
            for shape in limb(
                (center[0] + side * 0.92 * wide, center[1] - 0.2 * tall),
                0.2 * wide,
                (center[0] + side * 1.0 * wide, center[1] + 0.8 * length),
                0.26 * wide,
                person.hair,
            )
        ]
        parts.append((0.31, locks))
    return parts


def _hat(figure: Figure, center: Point, wide: float, tall: float) -> list[Shape]:
    """A cap, a hat with a brim, or a woolen cap."""
    person, view = figure.person, figure.view
    brow = center[1] - 0.2 * tall
    band = blend(person.hat, (0, 0, 0), 0.35)
    crown = Polygon(
        (
            (center[0] - 1.16 * wide, brow),
            (center[0] - 1.08 * wide, brow - 0.62 * tall),
            (center[0] - 0.6 * wide, brow - 1.02 * tall),
            (center[0] + 0.6 * wide, brow - 1.02 * tall),
            (center[0] + 1.08 * wide, brow - 0.62 * tall),
            (center[0] + 1.16 * wide, brow),
        ),
        person.hat,
    )
    if person.hat_style == 0:
        visor = (center[0] + 0.85 * sin(view.pose.yaw) * wide, brow + 0.08 * tall)
        seen = 0.95 if cos(view.pose.yaw) > -0.3 else 0.0
        return [crown, Ellipse(visor, seen * wide, 0.2 * seen * tall, band)]
    if person.hat_style == 1:
        return [Ellipse((center[0], brow), 1.95 * wide, 0.24 * tall, band), crown]
    ball = Ellipse((center[0], brow - 1.1 * tall), 0.34 * wide, 0.26 * tall, band)
    rim = limb((center[0] - 1.05 * wide, brow), 0.2 * tall, (center[0] + 1.05 * wide, brow), 0.2 * tall, band)
    return [ball, crown, *rim]


def _luggage(figure: Figure) -> list[Part]:
    person, view = figure.person, figure.view
    parts: list[Part] = []
    if person.has("backpack"):
        parts += _backpack(figure)
    if person.has("bag"):
        parts += _shoulder_bag(figure)
    if person.has("handbag"):
        parts += _handbag(figure)
    if person.cane:
        hand = arm_joints(figure, -person.side)[2]
        tip: Joint = (hand[0] * 1.1, 0.0, hand[2] + 0.06)
        stick = limb(view.point(hand), 0.011 * view.scale, view.point(tip), 0.011 * view.scale, (74, 46, 24))
        parts.append((view.depth(hand) + 0.02, stick))
    return parts


def _backpack(figure: Figure) -> list[Part]:
    """A pack on the back with straps over both shoulders."""
    person, view = figure.person, figure.view
    build = person.build
    top, low = shoulder_height(build) - 0.005, build.legs + 0.05
    back = -(build.depth + 0.055)
    half = view.half_width(build.shoulder * 0.78, 0.068)
    x0, y0 = view.point((0.0, top, back))
    x1, y1 = view.point((0.0, low, back))
    pocket = blend(person.backpack, (0, 0, 0), 0.35)
    round_ = 0.035 * view.scale
    pack: list[Shape] = [
        Polygon(
            (
                (x0 - half + round_, y0),
                (x0 + half - round_, y0),
                (x0 + half, y0 + round_),
                (x1 + half, y1 - 0.4 * round_),
                (x1 + half - round_, y1),
                (x1 - half + round_, y1),
                (x1 - half, y1 - 0.4 * round_),
                (x0 - half, y0 + round_),
            ),
            person.backpack,
        ),
        Polygon(
            (
                (x1 - 0.7 * half, y1 - 0.42 * (y1 - y0)),
                (x1 + 0.7 * half, y1 - 0.42 * (y1 - y0)),
                (x1 + 0.7 * half, y1 - 0.1 * (y1 - y0)),
                (x1 - 0.7 * half, y1 - 0.1 * (y1 - y0)),
            ),
            pocket,
        ),
    ]
    parts: list[Part] = [(1.6 * view.depth((0.0, low, back)), pack)]
    for side in (-1, 1):
        over: Joint = (side * build.shoulder * 0.58, top + 0.005, 0.0)
        chest: Joint = (side * build.shoulder * 0.62, build.legs + 0.12, build.depth)
        if view.depth((over[0], 0.0, build.depth)) > -0.01:
            thick = 0.021 * view.scale
            parts.append((0.14, limb(view.point(over), thick, view.point(chest), thick, pocket)))
    return parts


def _shoulder_bag(figure: Figure) -> list[Part]:
    """A bag at the hip, hanging from a strap across the body."""
    person, view = figure.person, figure.view
    build = person.build
    top = shoulder_height(build)
    hip: Joint = (person.side * (build.hip + 0.045), build.legs + 0.0, 0.0)
    front = build.depth * (1.0 if cos(view.pose.yaw) > 0 else -1.0)
    over: Joint = (-person.side * build.shoulder * 0.6, top + 0.005, front * 0.6)
    at_hip: Joint = (person.side * build.hip, build.legs + 0.06, front)
    strap = limb(
        view.point(over),
        0.014 * view.scale,
        view.point(at_hip),
        0.014 * view.scale,
        blend(person.bag, (0, 0, 0), 0.3),
    )
    near = view.depth(hip)
    return [(0.13, strap), (0.16 if near > -0.05 else -0.2, _sack(person.bag, view, hip, 0.068, 0.125))]


def _handbag(figure: Figure) -> list[Part]:
    """A bag that hangs from the hand by its handle."""
    person, view = figure.person, figure.view
    hand = arm_joints(figure, person.side)[2]
    below: Joint = (hand[0], hand[1] - 0.11, hand[2])
    x, y = view.point(hand)
    size = view.scale
    loop: list[Shape] = [
        *limb((x - 0.035 * size, y + 0.06 * size), 0.008 * size, (x, y), 0.008 * size, person.handbag),
        *limb((x + 0.035 * size, y + 0.06 * size), 0.008 * size, (x, y), 0.008 * size, person.handbag),
    ]
    near = 0.02 + view.depth((hand[0], 0.0, 0.0)) + 0.3 * view.depth(hand)
    return [(near, [*loop, *_sack(person.handbag, view, below, 0.06, 0.105)])]


def _sack(color: Color, view: View, center: Joint, half: float, tall: float) -> list[Shape]:
    """A soft box with a darker flap."""
    x, y = view.point(center)
    across = view.half_width(half * 0.75, half)
    up = tall / 2 * view.scale
    flap = blend(color, (0, 0, 0), 0.4)
    top = ((x - 0.85 * across, y - up), (x + 0.85 * across, y - up))
    body = (*top, (x + across, y + up), (x - across, y + up))
    lid = (*top, (x + 0.6 * across, y), (x - 0.6 * across, y))
    return [Polygon(body, color), Polygon(lid, flap)]
