"""Cameras that photograph drawn pedestrians: each has a street, light, color cast, viewpoint and lens."""

from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from reid_accel.synthetic.figures import draw_person
from reid_accel.synthetic.pedestrians import Person, sample_person
from reid_accel.synthetic.scenes import SCENE_HEIGHT_PX, SCENE_WIDTH_PX, draw_bush, draw_scene
from reid_accel.synthetic.skeleton import HEIGHT_PX, WIDTH_PX, Pose

CAMERA_STREAM = 1
"""Second number of a camera generator's seed, different from those of persons and images."""


@dataclass(frozen=True, eq=False)
class Camera:
    """Properties shared by all images of one camera."""

    number: int
    scene: Image.Image
    gains: tuple[float, float, float]
    """Factors on red, green and blue: light and color cast."""
    gamma: float
    haze: float
    """Share of gray, which reduces contrast."""
    blur_px: float
    noise: float
    jpeg_quality: int
    yaw: float
    """Main direction that people face, as in `Pose.yaw`."""
    tilt: float
    light: float
    """Direction of the light, -1 (left) to 1 (right)."""
    height_px: float
    """Usual height of an adult in the box."""


@dataclass(frozen=True)
class Track:
    """Properties shared by the images of one person under one camera."""

    yaw: float
    x_px: int
    """The person's initial position in the scene."""


def make_camera(seed: int, number: int) -> Camera:
    """Camera `number` (from 1) for `seed`, independent of all others."""
    rng = np.random.default_rng([seed, CAMERA_STREAM, number])
    cast = _color_cast(number, rng)
    return Camera(
        number=number,
        scene=draw_scene(rng, number),
        gains=(cast[0], cast[1], cast[2]),
        gamma=float(rng.uniform(0.85, 1.15)),
        haze=float(rng.uniform(0.0, 0.15)),
        blur_px=float(rng.uniform(0.15, 0.8)),
        noise=float(rng.uniform(1.5, 5.0)),
        jpeg_quality=int(rng.integers(55, 92)),
        yaw=float(number * 2.4 + rng.uniform(-0.3, 0.3)),
        tilt=float(rng.uniform(0.04, 0.28)),
        light=float(rng.uniform(-1.0, 1.0)),
        height_px=float(rng.uniform(98.0, 116.0)),
    )


def _color_cast(number: int, rng: np.random.Generator) -> np.ndarray:
    """Warm, cool or greenish, bright or dim; colors stay recognizable."""
    angle = 2.4 * number + rng.uniform(-0.3, 0.3)
    tint = 1 + 0.07 * np.cos(angle - np.array([0.0, 2.1, 4.2]))
    return tint * rng.uniform(0.85, 1.15)


def sample_track(rng: np.random.Generator, camera: Camera) -> Track:
    """Three out of four people walk in the camera's main direction, the others in a random direction."""
    yaw = camera.yaw + rng.normal(0.0, 0.45) if rng.random() < 0.75 else rng.uniform(0.0, 2 * np.pi)
    return Track(float(yaw), int(rng.integers(0, SCENE_WIDTH_PX - WIDTH_PX - 40)))


def sample_pose(rng: np.random.Generator, camera: Camera, track: Track) -> Pose:
    """A random moment of a walk, in a box as loose or tight as a detector's."""
    height = camera.height_px * rng.uniform(0.88, 1.12)
    slack = (HEIGHT_PX - height) / 2
    return Pose(
        yaw=track.yaw + float(rng.normal(0.0, 0.15)),
        phase=float(rng.uniform(0.0, 2 * np.pi)),
        stride=float(rng.uniform(0.15, 0.5)),
        tilt=camera.tilt,
        center_px=WIDTH_PX / 2 + float(rng.normal(0.0, 3.0)),
        ground_px=float(HEIGHT_PX - slack + rng.normal(0.0, 3.0)),
        height_px=float(height),
    )


def sample_junk_pose(rng: np.random.Generator, camera: Camera, track: Track) -> Pose:
    """A pose outside most of the box: off to the side, or too close."""
    pose = sample_pose(rng, camera, track)
    zoom = float(rng.uniform(0.9, 2.2))
    aside = float(rng.choice([-1, 1]) * rng.uniform(18, 30))
    below = float(rng.choice([-1, 1]) * rng.uniform(40, 75))
    return replace(
        pose,
        center_px=WIDTH_PX / 2 + aside,
        ground_px=HEIGHT_PX / 2 + zoom * pose.height_px / 2 + below,
        height_px=pose.height_px * zoom,
    )


def photograph(
    rng: np.random.Generator, camera: Camera, track: Track, person: Person | None, pose: Pose
) -> Image.Image:
    """One image, RGB 64x128 px: street, passers-by, the person (if any), occluders, lens."""
    picture = _background(rng, camera, track)
    if rng.random() < 0.25:
        _add_passer_by(rng, picture, camera)
    if person is not None:
        _add_person(rng, picture, camera, person, pose)
        if rng.random() < 0.3:
            _add_occluder(rng, picture, camera)
    return _develop(rng, camera, picture)


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
    """The bytes of a JPEG file."""
    buffer = BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def _background(rng: np.random.Generator, camera: Camera, track: Track) -> Image.Image:
    left = track.x_px + int(rng.integers(0, 40))
    top = int(rng.integers(0, SCENE_HEIGHT_PX - HEIGHT_PX))
    return camera.scene.crop((left, top, left + WIDTH_PX, top + HEIGHT_PX)).convert("RGBA")


def _add_person(rng: np.random.Generator, picture: Image.Image, camera: Camera, person: Person, pose: Pose) -> None:
    shadow = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    x, y = pose.center_px - 8 * camera.light, pose.ground_px
    box = (x - 0.17 * pose.height_px, y - 4, x + 0.17 * pose.height_px, y + 4)
    ImageDraw.Draw(shadow).ellipse(box, fill=(0, 0, 0, 110))
    picture.alpha_composite(shadow)
    picture.alpha_composite(_shaded(rng, draw_person(person, pose), camera.light))


def _shaded(rng: np.random.Generator, figure: Image.Image, light: float) -> Image.Image:
    """Shade the figure: lighter towards the light, with a coarse random pattern for folds."""
    alpha = figure.getchannel("A")
    thickness = np.asarray(alpha.filter(ImageFilter.BoxBlur(4)), dtype=np.float32) / 255
    slope = np.zeros_like(thickness)
    slope[:, 3:-3] = thickness[:, 6:] - thickness[:, :-6]
    folds = Image.fromarray(rng.normal(0.0, 0.09, (24, 12)).astype(np.float32)).resize(figure.size)
    shade = 1 - 0.55 * light * slope + np.asarray(folds) - 0.25 * (1 - thickness)
    pixels = np.asarray(figure, dtype=np.float32).copy()
    pixels[..., :3] *= np.clip(shade, 0.45, 1.3)[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _add_passer_by(rng: np.random.Generator, picture: Image.Image, camera: Camera) -> None:
    """Another person, smaller and to one side."""
    pose = Pose(
        yaw=float(rng.uniform(0, 2 * np.pi)),
        phase=float(rng.uniform(0, 2 * np.pi)),
        stride=0.35,
        tilt=camera.tilt,
        center_px=float(WIDTH_PX / 2 + rng.choice([-1, 1]) * rng.uniform(14, 32)),
        ground_px=float(rng.uniform(80, 112)),
        height_px=float(rng.uniform(45, 90)),
    )
    picture.alpha_composite(_shaded(rng, draw_person(sample_person(rng), pose), camera.light))


def _add_occluder(rng: np.random.Generator, picture: Image.Image, camera: Camera) -> None:
    """A pole, a bush, a low wall or a person in front."""
    kind = int(rng.integers(4))
    if kind == 0:
        _draw_pole(rng, ImageDraw.Draw(picture))
    elif kind == 1:
        draw_bush(rng, ImageDraw.Draw(picture), rng.uniform(0, WIDTH_PX), HEIGHT_PX, rng.uniform(20, 42))
    elif kind == 2:
        top = int(HEIGHT_PX - rng.uniform(18, 40))
        gray = int(rng.integers(70, 180))
        ImageDraw.Draw(picture).rectangle((0, top, WIDTH_PX, HEIGHT_PX), fill=(gray, gray - 6, gray - 14, 255))
        ImageDraw.Draw(picture).line((0, top, WIDTH_PX, top), fill=(gray // 2,) * 3, width=2)
    else:
        side = float(rng.choice([-1, 1]))
        pose = Pose(
            yaw=float(rng.uniform(0, 2 * np.pi)),
            phase=float(rng.uniform(0, 2 * np.pi)),
            stride=0.35,
            tilt=camera.tilt,
            center_px=WIDTH_PX / 2 + side * float(rng.uniform(22, 34)),
            ground_px=float(rng.uniform(126, 140)),
            height_px=float(rng.uniform(110, 135)),
        )
        picture.alpha_composite(_shaded(rng, draw_person(sample_person(rng), pose), camera.light))


def _draw_pole(rng: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    left, width = rng.uniform(4, WIDTH_PX - 12), rng.uniform(4, 9)
    gray = int(rng.integers(50, 170))
    draw.rectangle((left, 0, left + width, HEIGHT_PX), fill=(gray, gray, gray + 8, 255))
    draw.line((left + width, 0, left + width, HEIGHT_PX), fill=(gray // 2,) * 3, width=2)


def _develop(rng: np.random.Generator, camera: Camera, picture: Image.Image) -> Image.Image:
    """Light, color cast, haze, shadow, blur and noise of the camera."""
    blurred = picture.convert("RGB").filter(ImageFilter.GaussianBlur(camera.blur_px * float(rng.uniform(0.6, 1.6))))
    light = (np.asarray(blurred, dtype=np.float32) / 255) ** camera.gamma
    light = light * np.asarray(camera.gains, dtype=np.float32) * rng.uniform(0.88, 1.12)
    if rng.random() < 0.35:
        light = light * _cast_shadow(rng)[..., None]
    light = light * (1 - camera.haze) + 0.62 * camera.haze
    grain = rng.normal(0.0, camera.noise / 255, light.shape).astype(np.float32)
    return Image.fromarray((np.clip(light + grain, 0, 1) * 255).astype(np.uint8))


def _cast_shadow(rng: np.random.Generator) -> np.ndarray:
    """A slanted border between sun and shade."""
    rows = np.arange(HEIGHT_PX, dtype=np.float32)[:, None] / HEIGHT_PX - 0.5
    columns = np.arange(WIDTH_PX, dtype=np.float32)[None, :] / WIDTH_PX - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    side = rows * np.sin(angle) + columns * np.cos(angle) - rng.uniform(-0.3, 0.3)
    return 1 - rng.uniform(0.2, 0.5) / (1 + np.exp(-20 * side))
