"""The body of a drawn pedestrian: clothed torso, legs and arms, each part with its depth."""

from dataclasses import dataclass
from math import cos, pi, sin

from reid_accel.synthetic.pedestrians import Person
from reid_accel.synthetic.skeleton import (
    Ellipse,
    Fill,
    Joint,
    Part,
    Polygon,
    View,
    between,
    column,
    limb,
    shoulder_height,
)


@dataclass(frozen=True)
class Figure:
    """A person in one image, with the patterns of the garments."""

    person: Person
    view: View
    upper: Fill
    sleeve: Fill
    lower: Fill


def torso(figure: Figure) -> list[Part]:
    """Neck, hips and shirt, and the skirt of a dress."""
    person, view = figure.person, figure.view
    build = person.build
    top, hip = shoulder_height(build), build.legs
    waist = hip + 0.35 * (top - hip)
    neck = limb(
        view.point((0, top - 0.02, 0)),
        0.034 * view.scale,
        view.point((0, top + 0.05, 0)),
        0.032 * view.scale,
        person.skin,
    )
    middle = (waist, build.waist, build.depth)
    seat_rings = [middle, (hip, build.hip, build.depth * 1.1), (hip - 0.05, build.hip * 0.95, build.depth)]
    seat = column(view, seat_rings, figure.lower)
    shirt = column(
        view,
        [
            (top + 0.012, build.shoulder * 0.5, build.depth * 0.5),
            (top - 0.012, build.shoulder * 0.98, build.depth * 0.8),
            (top - 0.09, build.shoulder * 0.93, build.depth * 1.1),
            middle,
            (hip + 0.015, build.hip * 1.02, build.depth * 1.12),
        ],
        figure.upper,
    )
    parts: list[Part] = [(-0.02, neck), (0.0, [seat]), (0.004, [shirt])]
    if person.value("clothes") == "dress":
        parts.append((0.002, [_skirt(figure)]))
    return parts


def _skirt(figure: Figure) -> Polygon:
    person, view = figure.person, figure.view
    build = person.build
    short = person.value("down") == "short"
    hem = build.legs * (0.56 + 0.1 * person.leg_length if short else 0.12 + 0.12 * person.leg_length)
    flare = 1.55 if short else 1.7
    return column(
        view,
        [
            (build.legs + 0.1, build.waist, build.depth),
            (build.legs, build.hip * 1.1, build.depth * 1.25),
            (hem, build.hip * flare, build.depth * flare * 1.2),
        ],
        figure.lower,
    )


def legs(figure: Figure) -> list[Part]:
    """Both legs with shoes; bare skin below short trousers or a skirt."""
    return [part for side in (-1, 1) for part in _leg(figure, side)]


def _leg(figure: Figure, side: int) -> list[Part]:
    person, view = figure.person, figure.view
    build, pose = person.build, view.pose
    swing = pose.stride * sin(pose.phase + (0 if side > 0 else pi))
    bend = 0.9 * pose.stride * max(0.0, cos(pose.phase + (0 if side > 0 else pi)))
    half = build.legs * 0.49
    hip: Joint = (side * build.hip * 0.52, build.legs, 0.0)
    knee: Joint = (side * build.hip * 0.5, hip[1] - half * cos(swing), half * sin(swing))
    ankle: Joint = (
        side * build.hip * 0.46,
        knee[1] - half * 0.94 * cos(swing - bend),
        knee[2] + half * 0.94 * sin(swing - bend),
    )
    toe: Joint = (ankle[0] * 1.15, ankle[1] - 0.012, ankle[2] + 0.075)
    thick = build.limb * view.scale
    hip_px, knee_px, ankle_px, toe_px = (view.point(joint) for joint in (hip, knee, ankle, toe))
    cloth = figure.lower
    shoe = limb(ankle_px, 0.6 * thick, toe_px, 0.5 * thick, person.shoes)
    bare = person.value("down") == "short" or person.value("clothes") == "dress"
    shin = limb(knee_px, 0.95 * thick, ankle_px, 0.6 * thick, person.skin if bare else cloth)
    covering = person.skin if person.value("clothes") == "dress" else cloth
    thigh = limb(hip_px, 1.45 * thick, knee_px, 1.05 * thick, covering)
    if bare and person.value("clothes") == "pants":
        end = between(hip, knee, 0.72 + 0.28 * person.leg_length)
        thigh = [
            *limb(hip_px, 1.4 * thick, knee_px, 0.95 * thick, person.skin),
            *limb(hip_px, 1.5 * thick, view.point(end), 1.25 * thick, cloth),
        ]
    near = -0.05 + 0.5 * view.depth(hip) + 0.05 * view.depth(knee)
    return [(near, [*shoe, *shin, *thigh])]


def arms(figure: Figure) -> list[Part]:
    """Both arms with hands; bare skin below a short sleeve."""
    return [part for side in (-1, 1) for part in _arm(figure, side)]


def arm_joints(figure: Figure, side: int) -> tuple[Joint, Joint, Joint]:
    """Shoulder, elbow and hand; an arm that carries something swings less."""
    person, view = figure.person, figure.view
    build, pose = person.build, view.pose
    carries = side == person.side and (person.has("handbag") or person.cane)
    swing = -0.9 * pose.stride * sin(pose.phase + (0 if side > 0 else pi)) * (0.3 if carries else 1.0)
    top = shoulder_height(build) - 0.03
    length = (top - build.legs) * 0.56
    shoulder: Joint = (side * build.shoulder * 0.95, top, 0.0)
    elbow: Joint = (side * (build.shoulder * 1.02 + 0.016), top - length * cos(swing), length * sin(swing))
    forward = swing + 0.28
    hand: Joint = (
        side * (build.shoulder * 1.0 + 0.02),
        elbow[1] - length * 0.95 * cos(forward),
        elbow[2] + length * 0.95 * sin(forward),
    )
    return shoulder, elbow, hand


def _arm(figure: Figure, side: int) -> list[Part]:
    person, view = figure.person, figure.view
    shoulder, elbow, hand = arm_joints(figure, side)
    thick = person.build.limb * view.scale * 0.82
    shoulder_px, elbow_px, hand_px = (view.point(joint) for joint in (shoulder, elbow, hand))
    cloth = figure.sleeve
    palm = Ellipse(hand_px, 0.75 * thick, 0.85 * thick, person.skin)
    if person.value("up") == "long":
        shapes = [
            palm,
            *limb(elbow_px, 0.95 * thick, view.point(between(elbow, hand, 0.85)), 0.75 * thick, cloth),
            *limb(shoulder_px, 1.2 * thick, elbow_px, 0.98 * thick, cloth),
        ]
    else:
        end = view.point(between(shoulder, elbow, person.sleeve_length))
        shapes = [
            palm,
            *limb(elbow_px, 0.8 * thick, hand_px, 0.62 * thick, person.skin),
            *limb(shoulder_px, 0.95 * thick, elbow_px, 0.82 * thick, person.skin),
            *limb(shoulder_px, 1.25 * thick, end, 1.15 * thick, cloth),
        ]
    return [(0.01 + view.depth(shoulder) + 0.3 * view.depth(hand), shapes)]
