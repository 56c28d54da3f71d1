"""Small made sets of vehicles in the layouts of VeRi-776 and PKU VehicleID."""

from pathlib import Path

import numpy as np
from PIL import Image

XML = '<?xml version="1.0" encoding="gb2312"?>\n<TrainingImages Version="1.0">\n<Items number="{0}">\n{1}\n</Items>\n'


def draw_vehicle(path: Path, vehicle: int, seed: int) -> None:
    """Noise around a color of the vehicle."""
    color = np.random.default_rng(vehicle).normal(128, 15, 3)
    pixels = np.random.default_rng([vehicle, seed]).normal(0, 22, (24, 32, 3)) + color
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)


def make_veri(root: Path) -> Path:
    """Vehicles 1 to 6 for training and 7 to 10 for testing, two cameras; query images are in the gallery too."""
    items: dict[str, list[str]] = {"train": [], "test": []}
    tracks = []
    for vehicle in range(1, 11):
        for camera in (1, 2):
            names = [
                f"{vehicle:04d}_c{camera:03d}_{100 * vehicle + 5 * number:08d}_{number}.jpg" for number in range(2)
            ]
            for number, name in enumerate(names):
                folders = ["image_train"] if vehicle <= 6 else ["image_test"]
                folders += ["image_query"] if vehicle > 6 and number == 0 else []
                for folder in folders:
                    draw_vehicle(root / folder / name, vehicle, 10 * camera + number)
                items["train" if vehicle <= 6 else "test"].append(
                    f'<Item imageName="{name}" vehicleID="{vehicle:04d}" cameraID="c{camera:03d}" '
                    f'colorID="{1 + vehicle % 10}" typeID="{1 + vehicle % 9}"/>'
                )
            if vehicle > 6:
                tracks.append(" ".join(names))
    for half, lines in items.items():
        text = XML.format(len(lines), "\n".join(lines)) + "</TrainingImages>\n"
        (root / f"{half}_label.xml").write_bytes(text.encode("gb2312"))
    (root / "test_track.txt").write_text("\n".join(tracks) + "\n")
    return root


def make_vehicleid(root: Path) -> Path:
    """Vehicles 0 to 5 for training and 6 to 11 for testing, four images each."""
    lists: dict[str, list[str]] = {"train_list": [], "test_list_800": [], "test_list_1600": []}
    image = 0
    for vehicle in range(12):
        for number in range(4):
            image += 1
            draw_vehicle(root / "image" / f"{image:07d}.jpg", vehicle, number)
            line = f"{image:07d} {vehicle}"
            lists["train_list" if vehicle < 6 else "test_list_1600"].append(line)
            if 6 <= vehicle < 10:
                lists["test_list_800"].append(line)
    for folder in ("train_test_split", "attribute"):
        (root / folder).mkdir()
    for name, lines in lists.items():
        (root / "train_test_split" / f"{name}.txt").write_text("\n".join(lines[::-1]) + "\n")
    attribute = root / "attribute"
    (attribute / "color_names.txt").write_text("black 0\nwhite 1\nred 2\n")
    (attribute / "color_attr.txt").write_text("".join(f"{vehicle} {vehicle % 3}\n" for vehicle in range(0, 12, 2)))
    (attribute / "model_names.txt").write_bytes("奥迪 A6L 0\n大众 朗逸 1\n大众 朗逸 2\n".encode("gb18030"))
    (attribute / "model_attr.txt").write_text("".join(f"{vehicle} {vehicle % 3}\n" for vehicle in range(12)))
    return root
