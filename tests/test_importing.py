"""Imported models compute the features of the code that they come from.

Each golden file holds the names and shapes of a public code's tensors, and the features that its own forward pass gave
at drawn weights (`helpers.drawn_weights`) for drawn pixels, after its own normalization. None of that code is here.
"""

import json
import os
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
from helpers.drawn_weights import drawn, drawn_pixels
from huggingface_hub import metadata_load
from safetensors import safe_open
from safetensors.torch import save_file

from reid_accel import ReIDModel, import_weights
from reid_accel.cli import main
from reid_accel.config.schema import Config, ModelConfig
from reid_accel.errors import InputError
from reid_accel.hub import push
from reid_accel.models.backbone import build_backbone, load_pretrained
from reid_accel.weights.published import PublishedSettings
from reid_accel.weights.resnets import LUPERSON
from reid_accel.weights.schemes import recognize

GOLDEN = Path(__file__).parent / "weights" / "golden"
SCHEMES = {
    "torchreid_osnet_x0_25": ("torchreid's OSNet", "osnet_x0_25"),
    "torchreid_osnet_ibn_x1_0": ("torchreid's OSNet", "osnet_ibn_x1_0"),
    "torchreid_osnet_ain_x0_25": ("torchreid's OSNet", "osnet_ain_x0_25"),
    "torchreid_resnet18": ("torchreid's ResNet", "resnet18"),
    "torchreid_resnet50_fc512": ("torchreid's ResNet", "resnet50"),
    "bag_of_tricks_resnet18": ("the Bag of Tricks baseline", "resnet18"),
    "bag_of_tricks_resnet50_ibn_a": ("the Bag of Tricks baseline", "resnet50_ibn_a"),
    "bag_of_tricks_no_neck": ("the Bag of Tricks baseline", "resnet18"),
    "fastreid_resnet18_gem": ("fast-reid", "resnet18"),
    "fastreid_resnet18_ibn_avg_256": ("fast-reid", "resnet18_ibn_a"),
    "fastreid_osnet_x0_25": ("fast-reid", "osnet_x0_25"),
    "transreid_vit_tiny": ("TransReID", "vit_tiny_patch16_224"),
    "transreid_vit_tiny_stride12": ("TransReID", "vit_tiny_patch16_224"),
    "transreid_vit_tiny_jigsaw_camera": ("TransReID", "vit_tiny_patch16_224"),
    "solider_swin_tiny": ("SOLIDER", "solider_swin_tiny"),
    "clip_reid_vit_base": ("CLIP-ReID", "vit_base_patch16_clip_quickgelu_224"),
}
LONG = {"clip_reid_vit_base": pytest.mark.long}  # 86 million weights


class Golden:
    """A public code's tensors, its input and its features."""

    def __init__(self, name: str) -> None:
        with np.load(GOLDEN / f"{name}.npz") as stored:
            self.keys: list[str] = stored["keys"].tolist()
            self.shapes = [[int(length) for length in shape.split()] for shape in stored["shapes"].tolist()]
            self.features = torch.from_numpy(stored["features"])
            self.height, self.width = stored["size"].tolist()

    def weights(self) -> dict[str, torch.Tensor]:
        return drawn(self.keys, self.shapes, seed=0)

    def pixels(self) -> list[npt.NDArray[np.uint8]]:
        return drawn_pixels(self.height, self.width)


def assert_same_features(features: torch.Tensor, golden: torch.Tensor, metric: str) -> None:
    wanted = torch.nn.functional.normalize(golden) if metric == "cosine" else golden
    torch.testing.assert_close(features, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("name", [pytest.param(name, marks=LONG.get(name, ())) for name in SCHEMES])
def test_features_are_those_of_the_public_code(name: str, tmp_path: Path) -> None:
    golden = Golden(name)
    torch.save(golden.weights(), tmp_path / "public.pth")
    imported = import_weights(tmp_path / "public.pth", tmp_path / "model")
    assert (imported.scheme, imported.backbone) == SCHEMES[name]
    model = ReIDModel.from_pretrained(tmp_path / "model")
    assert (model.architecture.height_px, model.architecture.width_px) == (golden.height, golden.width)
    assert_same_features(model.embed(golden.pixels()), golden.features, model.architecture.metric)
    assert imported.used + sum(map(len, imported.left_out.values())) == len(golden.keys)
    other = model.embed([255 - pixels for pixels in golden.pixels()])
    with pytest.raises(AssertionError):  # the control: other pixels have other features
        assert_same_features(other, golden.features, model.architecture.metric)


@pytest.mark.parametrize("wrapped", ["bare", "module.", "state_dict", "model", "half", "legacy", "safetensors"])
def test_every_container_gives_the_same_model(wrapped: str, tmp_path: Path) -> None:
    golden, path = Golden("torchreid_osnet_x0_25"), tmp_path / "model.pth.tar"
    weights = golden.weights()
    named = {f"module.{name}": value for name, value in weights.items()}
    if wrapped == "safetensors":
        path = tmp_path / "model.safetensors"
        save_file(weights, path)
    elif wrapped == "half":
        torch.save(
            {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}, path
        )
    else:
        content = {"bare": weights, "legacy": weights, "module.": named, "model": {"model": named, "iteration": 3}}
        content["state_dict"] = {"state_dict": named, "epoch": 3, "rank1": np.float64(0.9), "optimizer": {"state": {}}}
        torch.save(content[wrapped], path, _use_new_zipfile_serialization=wrapped != "legacy")
    import_weights(path, tmp_path / "model")
    features = ReIDModel.from_pretrained(tmp_path / "model").embed(golden.pixels())
    if wrapped == "half":
        torch.testing.assert_close(features, golden.features, rtol=0.02, atol=0.02)
    else:
        assert_same_features(features, golden.features, "euclidean")


def test_a_backbone_becomes_a_file_to_start_training_from(tmp_path: Path) -> None:
    golden = Golden("ibnnet_resnet18_ibn_a")
    torch.save(golden.weights(), tmp_path / "resnet18_ibn_a.pth")
    imported = import_weights(tmp_path / "resnet18_ibn_a.pth", tmp_path / "ibn")
    assert not imported.is_reid
    backbone = build_backbone(ModelConfig(backbone="resnet18_ibn_a"))
    load_pretrained(backbone, "resnet18_ibn_a", str(tmp_path / "ibn" / "backbone.safetensors"))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (imported.mean, imported.std))
    images = torch.from_numpy(np.stack(golden.pixels())).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        assert_same_features(backbone.eval()((images - mean) / std), golden.features, "euclidean")


@pytest.mark.parametrize(
    ("name", "backbone"), [("torchreid_osnet_x0_25", "osnet_x0_25"), ("ibnnet_resnet18_ibn_a", "resnet18_ibn_a")]
)
def test_training_starts_from_safetensors_in_their_names_too(name: str, backbone: str, tmp_path: Path) -> None:
    save_file(Golden(name).weights(), tmp_path / "theirs.safetensors")
    started = build_backbone(ModelConfig(backbone=backbone))
    load_pretrained(started, backbone, str(tmp_path / "theirs.safetensors"))
    torch.save(Golden(name).weights(), tmp_path / "theirs.pth")
    import_weights(tmp_path / "theirs.pth", tmp_path / "imported")
    file = next((tmp_path / "imported").glob("*.safetensors"))
    imported = build_backbone(ModelConfig(backbone=backbone))
    load_pretrained(imported, backbone, str(file))
    ours, theirs = imported.state_dict(), started.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours if not key.endswith("num_batches_tracked"))


def test_lupersons_normalization_goes_into_the_trained_model(tmp_path: Path) -> None:
    weights = {
        name: value for name, value in Golden("torchreid_resnet18").weights().items() if "classifier" not in name
    }
    torch.save(weights, tmp_path / "lup.pth")
    imported = import_weights(tmp_path / "lup.pth", tmp_path / "lup")
    assert imported.scheme == "LUPerson's ResNet"
    assert (imported.mean, imported.std) == LUPERSON
    file = str(tmp_path / "lup" / "backbone.safetensors")
    config = Config(model=ModelConfig(backbone="resnet18", weights_file=file, attributes=False))
    model = ReIDModel.from_config(config, (), 3)
    assert (model.architecture.mean, model.architecture.std) == LUPERSON
    changed = import_weights(tmp_path / "lup.pth", tmp_path / "tv", PublishedSettings(source="torchvision"))
    assert changed.mean == (0.485, 0.456, 0.406)


def test_a_models_own_normalization_is_kept_where_training_goes_on_from_it(tmp_path: Path) -> None:
    golden = Golden("bag_of_tricks_resnet18")
    torch.save({f"backbone.{name[5:]}": v for name, v in golden.weights().items() if name[:5] == "base."}
               | {"heads.weight": torch.zeros(3, 512), "pixel_mean": torch.full((1, 3, 1, 1), 51.0),
                  "pixel_std": torch.full((1, 3, 1, 1), 102.0)}, tmp_path / "fast.pth")  # fmt: skip
    import_weights(tmp_path / "fast.pth", tmp_path / "model")
    file = str(tmp_path / "model" / "model.safetensors")
    settings = ModelConfig(backbone="resnet18", stem="ceil-pool", weights_file=file, attributes=False)
    model = ReIDModel.from_config(Config(model=settings), (), 3)
    assert model.architecture.mean == pytest.approx((0.2, 0.2, 0.2))
    assert model.architecture.std == pytest.approx((0.4, 0.4, 0.4))


def test_fast_reids_pixels_are_normalized_once(tmp_path: Path) -> None:
    golden = Golden("fastreid_resnet18_gem")
    pixels = {"pixel_mean": torch.tensor([103.5, 110.0, 120.0]), "pixel_std": torch.tensor([57.0, 58.0, 59.0])}
    stored = {name: value.view(1, 3, 1, 1) for name, value in pixels.items()}
    torch.save({"model": golden.weights() | stored}, tmp_path / "market.pth")
    imported = import_weights(tmp_path / "market.pth", tmp_path / "model")
    assert imported.inside == "model"
    assert imported.mean == pytest.approx([103.5 / 255, 110 / 255, 120 / 255])
    assert imported.std == pytest.approx([57 / 255, 58 / 255, 59 / 255])


def test_transreids_cameras_are_kept_and_unknown_ones_are_their_mean(tmp_path: Path) -> None:
    golden = Golden("transreid_vit_tiny_jigsaw_camera")
    torch.save(golden.weights(), tmp_path / "transreid.pth")
    imported = import_weights(tmp_path / "transreid.pth", tmp_path / "model")
    text = "\n".join(imported.lines())
    assert "cameras 1 to 6 have the vectors of TransReID's camera embedding" in text
    model = ReIDModel.from_pretrained(tmp_path / "model")
    with np.load(GOLDEN / "transreid_vit_tiny_jigsaw_camera.npz") as stored:
        cameras, by_camera = stored["cameras"].tolist(), torch.from_numpy(stored["features_by_camera"])
    assert_same_features(model.embed(golden.pixels(), cameras=cameras), by_camera, "cosine")
    assert_same_features(model.embed(golden.pixels(), cameras=[0, 7, -1]), golden.features, "cosine")
    with pytest.raises(AssertionError):  # the control: another camera has other features
        assert_same_features(model.embed(golden.pixels(), cameras=cameras[::-1]), by_camera, "cosine")
    assert "four local features of the jigsaw branch are left out" in text
    assert imported.model.patch_stride == 12


def test_the_card_says_where_the_weights_came_from_and_a_push_is_private(tmp_path: Path) -> None:
    torch.save({"state_dict": Golden("torchreid_osnet_x0_25").weights()}, tmp_path / "osnet|<b>.pth")
    imported = import_weights(tmp_path / "osnet|<b>.pth", tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    for part in (imported.sha256, "torchreid's OSNet", "entry state_dict", "osnet\\|&lt;b>.pth"):
        assert part in card
    assert metadata_load(tmp_path / "model" / "README.md")["license"] == "other"
    plan = push(tmp_path / "model", "user/name", dry_run=True)
    assert plan.private
    assert sorted(file.name for file in plan.files) == ["README.md", "config.json", "model.safetensors"]


def test_the_command_prints_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(Golden("torchreid_resnet18").weights(), tmp_path / "net.pth")
    flags = ["--height-px", "128", "--width-px", "64"]
    with pytest.raises(SystemExit) as exit_:
        main(["import-weights", str(tmp_path / "net.pth"), "--to", str(tmp_path / "model"), *flags])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    assert "taken for torchreid's ResNet: a re-identification model, resnet18" in printed
    assert "2 not taken as they are (classifier.weight, classifier.bias)" in printed
    assert "128 x 64 pixels" in printed
    content = json.loads((tmp_path / "model" / "config.json").read_text())["architecture"]["model"]
    assert (content["height_px"], content["width_px"]) == (128, 64)


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in Golden("torchreid_osnet_x0_25").weights().items() if key != name}


def with_(**changed: torch.Tensor) -> dict[str, torch.Tensor]:
    return Golden("torchreid_osnet_x0_25").weights() | {key.replace("__", "."): value for key, value in changed.items()}


BAD = {
    "missing": (lambda: without("conv5.conv.weight"), r"1 missing \(backbone\.conv5\.0\.weight\)"),
    "of another width": (
        lambda: with_(conv5__conv__weight=torch.zeros(64, 128, 1, 1)),
        r"1 of another shape \(backbone\.conv5\.0\.weight \[64, 128, 1, 1\] instead of \[128, 128, 1, 1\]\)",
    ),
    "NaN": (
        lambda: with_(conv5__conv__weight=torch.full((128, 128, 1, 1), torch.nan)),
        r"bad\.pth: 1 of \d+ tensors hold NaN or infinity \(backbone\.conv5\.0\.weight\).*import another",
    ),
    "something more": (lambda: with_(extra__weight=torch.zeros(2)), r"1 unknown \(backbone\.extra\.weight\)"),
    "of no known scheme": (
        lambda: {f"encoder.{n}.weight": torch.zeros(1) for n in range(9)},
        r"no scheme that is known here: its 9 tensors are named encoder\.0\.weight, .*known are torchreid's",
    ),
    "half a model": (
        lambda: {key: value for key, value in with_().items() if key.startswith("conv") and "conv5" not in key},
        r"\d+ missing \(",
    ),
    "a scheme that isn't built": (
        lambda: {"backbone.NL_2.0.g.weight": torch.zeros(1)} | Golden("fastreid_resnet18_gem").weights(),
        r"fast-reid with non-local blocks, which this package does not build",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_understood_as_a_whole_is_refused_and_nothing_is_written(kind: str, tmp_path: Path) -> None:
    content, sentence = BAD[kind]
    torch.save(content(), tmp_path / "bad.pth")
    with pytest.raises(InputError, match=sentence):
        import_weights(tmp_path / "bad.pth", tmp_path / "model")
    assert os.listdir(tmp_path) == ["bad.pth"]


SMALL = ("torchreid_osnet_x0_25", "fastreid_osnet_x0_25", "transreid_vit_tiny_jigsaw_camera", "solider_swin_tiny")


@pytest.mark.parametrize("name", SMALL)
def test_any_tensor_that_is_missing_or_of_another_shape_is_a_sentence(name: str) -> None:
    """Recognition alone, with each tensor in turn, in five ways by turns: nothing but InputError comes out of it."""
    golden = Golden(name)
    weights = {key: torch.zeros(shape) for key, shape in zip(golden.keys, golden.shapes, strict=True)}
    others = (None, torch.zeros(()), torch.zeros(3), torch.zeros(2, 5, 1, 1), torch.zeros(0))
    sentences = 0
    for key, other in zip(weights, cycle(others), strict=False):
        changed = {each: kept for each, kept in weights.items() if each != key}
        if other is not None:
            changed[key] = other
        try:
            recognize(changed, "net.pth")
        except InputError:
            sentences += 1
    assert sentences > 0
    assert recognize(weights, "net.pth").is_reid


def test_names_that_share_memory_are_written_apart(tmp_path: Path) -> None:
    weights = Golden("ibnnet_resnet18_ibn_a").weights()
    weights["layer1.0.bn2.bias"] = weights["layer1.0.bn2.weight"]
    torch.save(weights, tmp_path / "net.pth")
    import_weights(tmp_path / "net.pth", tmp_path / "net")
    assert (tmp_path / "net" / "backbone.safetensors").is_file()


def test_a_folder_that_exists_is_kept(tmp_path: Path) -> None:
    torch.save(without("nothing"), tmp_path / "net.pth")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="exists already"):
        import_weights(tmp_path / "net.pth", tmp_path / "model")
    assert os.listdir(tmp_path / "model") == ["mine.txt"]


def test_a_backbone_file_says_its_own_normalization(tmp_path: Path) -> None:
    torch.save(Golden("ibnnet_resnet18_ibn_a").weights(), tmp_path / "a.pth")
    import_weights(tmp_path / "a.pth", tmp_path / "a")
    with safe_open(tmp_path / "a" / "backbone.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["normalization"])[0] == [0.485, 0.456, 0.406]
    assert metadata["backbone"] == "resnet18_ibn_a"


def test_scoring_and_predicting_take_an_imported_model(tmp_path: Path, small_market: Path) -> None:
    torch.save(Golden("torchreid_osnet_x0_25").weights(), tmp_path / "net.pth")
    import_weights(tmp_path / "net.pth", tmp_path / "model", PublishedSettings(height_px=64, width_px=32))
    data = ["--data.name", "market-layout", "--data.root", str(small_market), "--data.cache-dir", str(tmp_path / "c")]
    model = ["--model", str(tmp_path / "model")]
    with pytest.raises(SystemExit, match="0"):
        main(["score", *model, *data, "--dir", str(tmp_path / "scores")])
    report = json.loads((tmp_path / "scores" / "report.json").read_text())
    assert 0 < report["retrieval"][0]["mAP"] <= 1
    folders = ["--queries", str(small_market / "query"), "--test", str(small_market / "bounding_box_test")]
    with pytest.raises(SystemExit, match="0"):
        main(["predict", *model, *folders, "--dir", str(tmp_path / "predicted")])
    assert (tmp_path / "predicted" / "reid_test.txt").read_text().count("\n") == len(os.listdir(small_market / "query"))


def resnet_of(tensors: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in tensors.items() if "classifier" not in name}


PUBLISHED = {
    "torchvision's": (lambda: resnet_of(Golden("torchreid_resnet18").weights()) | classifier(), "torchvision's ResNet"),
    "MoCo's": (
        lambda: (
            resnet_of(Golden("torchreid_resnet18").weights(), "module.encoder_q.")
            | resnet_of(Golden("torchreid_resnet18").weights(), "module.encoder_k.")
            | {"module.queue": torch.zeros(4, 4), "module.encoder_q.fc.0.weight": torch.zeros(2, 512)}
        ),
        "LUPerson's ResNet in MoCo",
    ),
    "a package's EfficientNet-Lite": (lambda: efficientnet_lite(), "EfficientNet-Lite"),
    "SOLIDER's teacher": (lambda: teacher(Golden("solider_swin_tiny").weights()), "SOLIDER"),
}


def classifier() -> dict[str, torch.Tensor]:
    return {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


def efficientnet_lite() -> dict[str, torch.Tensor]:
    """timm's tensors in the package's order and under some of its names."""
    stored = timm.create_model("tf_efficientnet_lite0").state_dict()
    weights = [value for name, value in stored.items() if not name.endswith("num_batches_tracked")]
    names = ["_conv_stem.weight", *(f"{number}.weight" for number in range(len(weights) - 2)), "_conv_head.weight"]
    return dict(zip(names, (value + 0.01 for value in weights), strict=True))


def teacher(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    swin = {f"backbone.{name.removeprefix('base.')}": value for name, value in weights.items() if name[:5] == "base."}
    return swin | {"head.mlp.0.weight": torch.zeros(3, 3)}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_backbones_start_a_training(kind: str, tmp_path: Path) -> None:
    content, scheme = PUBLISHED[kind]
    stored = content()
    torch.save({"teacher": stored} if scheme == "SOLIDER" else stored, tmp_path / "published.pth")
    imported = import_weights(tmp_path / "published.pth", tmp_path / "published")
    assert imported.scheme == scheme
    assert not imported.is_reid
    backbone = build_backbone(ModelConfig(backbone=imported.backbone))
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    load_pretrained(backbone, imported.backbone, str(tmp_path / "published" / "backbone.safetensors"))
    kept = [key for key, value in backbone.state_dict().items() if torch.equal(value, before[key])]
    assert [key for key in kept if not key.endswith(("num_batches_tracked", "relative_position_index"))] == []


def clip_resnet() -> dict[str, torch.Tensor]:
    return {"image_encoder.attnpool.c_proj.weight": torch.zeros(2), "image_encoder.conv1.weight": torch.zeros(2)}


def shallow_vit() -> dict[str, torch.Tensor]:
    weights = Golden("transreid_vit_tiny").weights()
    return {name: value for name, value in weights.items() if not name.startswith(("base.blocks.8.", "base.blocks.9."))}


def unusual_size() -> dict[str, torch.Tensor]:
    return Golden("transreid_vit_tiny").weights() | {"base.pos_embed": torch.zeros(1, 100, 192)}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (clip_resnet, "CLIP-ReID's ResNet, whose attention pooling this package doesn't build"),
        (shallow_vit, "TransReID's ViT with 10 blocks of 192 channels .* which timm doesn't build"),
        (unusual_size, "position embedding is for 99 patches, which no image size of TransReID"),
    ],
    ids=["CLIP's ResNet", "another depth", "another size"],
)
def test_variants_that_cannot_be_built_say_so(content: Callable[[], object], sentence: str, tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "net.pth")
    with pytest.raises(InputError, match=sentence):
        import_weights(tmp_path / "net.pth", tmp_path / "model")
    assert os.listdir(tmp_path) == ["net.pth"]
