import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from helpers.fake_hub import FakeHub, Repo
from safetensors.torch import save_file
from timm.models import PretrainedCfg

from reid_accel.config.schema import Config, ModelConfig
from reid_accel.errors import InputError
from reid_accel.evaluation.final_report import model_facts
from reid_accel.models.architecture import Architecture
from reid_accel.models.backbone import build_backbone, load_pretrained, normalization, starting_weights
from reid_accel.models.reid import ReIDModel


def built(name: str, last_stride: int = 2) -> torch.nn.Module:
    return build_backbone(ModelConfig(backbone=name, last_stride=last_stride, height_px=64, width_px=32)).eval()


@pytest.mark.parametrize("name", ["resnet10t", "resnet18", "resnet50"])
def test_last_stride_one_doubles_the_last_map_without_dilation(name: str) -> None:
    images = torch.randn(1, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    coarse, fine = built(name), built(name, last_stride=1)
    fine.load_state_dict(coarse.state_dict())  # the same weights fit
    assert coarse.forward_features(images).shape[-2:] == (2, 1)
    assert fine.forward_features(images).shape[-2:] == (4, 2)
    dilations = {m.dilation for m in fine.modules() if isinstance(m, torch.nn.Conv2d)}
    assert dilations == {(1, 1)}


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit_tiny_patch16_224", "convnext_atto"])
def test_other_families_give_pooled_features_at_this_size(name: str) -> None:
    backbone = built(name)
    assert backbone(torch.zeros(2, 3, 64, 32)).shape == (2, backbone.head_hidden_size)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("resnet51", "resnet50"), ("osnet", "osnet_x0_5"), ("resnet50_ibn", "resnet50_ibn_a"), ("a_ibn_a", "resnet")],
)
def test_an_unknown_name_gets_the_close_ones(wrong: str, right: str) -> None:
    with pytest.raises(InputError, match=rf"no model '{wrong}'; close names: .*{right}"):
        built(wrong)


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("resnet50", (0.485, 0.456, 0.406)),
        ("resnet50_ibn_a", (0.485, 0.456, 0.406)),
        ("osnet_x1_0", (0.485, 0.456, 0.406)),
        ("vit_small_patch16_224", (0.5, 0.5, 0.5)),  # Steiner et al. 2022 trained them on -1..1
        ("vit_base_patch16_clip_224", (0.48145466, 0.4578275, 0.40821073)),  # OpenAI's
    ],
)
def test_colors_are_normalized_as_the_pretrained_weights_expect(name: str, mean: tuple[float, ...]) -> None:
    assert normalization(name)[0] == mean


def test_a_local_file_fills_the_backbone(tmp_path: Path) -> None:
    source, target = built("test_resnet"), built("test_resnet")
    weights = {key: value.clone() for key, value in source.state_dict().items()}
    save_file(weights | {"fc.weight": torch.zeros(1000, 128)}, tmp_path / "weights.safetensors")
    load_pretrained(target, "test_resnet", str(tmp_path / "weights.safetensors"))
    assert all(torch.equal(value, weights[key]) for key, value in target.state_dict().items())


def test_a_whole_model_of_this_package_gives_its_backbone(tmp_path: Path) -> None:
    source, target = built("test_resnet"), built("test_resnet")
    whole = {f"backbone.{key}": value for key, value in source.state_dict().items()}
    save_file(whole | {"neck.weight": torch.zeros(3), "identity_classifier.weight": torch.zeros(5, 3)}, tmp_path / "m")
    load_pretrained(target, "test_resnet", str(tmp_path / "m"))
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in target.state_dict().items())


def test_a_file_that_does_not_fit_is_counted_by_kind(tmp_path: Path) -> None:
    weights = built("test_resnet").state_dict()
    missing, reshaped, *_ = sorted(name for name in weights if name.endswith("weight"))
    del weights[missing]
    weights[reshaped] = torch.zeros(1, 1)
    save_file(weights | {f"head.{n}": torch.zeros(1) for n in range(4)}, tmp_path / "weights.safetensors")
    expected = (
        rf"backbone test_resnet: of its {len(weights) + 1} tensors 1 missing \({missing}\), "
        rf"1 of another shape \({reshaped} 1 x 1 instead of [\dx ]+\), "
        r"4 unexpected \(head.0, head.1, head.2 and 1 more\)"
    )
    with pytest.raises(InputError, match=expected):
        load_pretrained(built("test_resnet"), "test_resnet", str(tmp_path / "weights.safetensors"))


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    torch.save(built("test_resnet").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(InputError, match="not a safetensors file"):
        load_pretrained(built("test_resnet"), "test_resnet", str(tmp_path / "weights.pth"))


def test_a_download_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"could not be downloaded.*--model\.weights-file.*--model\.no-pretrained"):
        load_pretrained(built("resnet10t"), "resnet10t", None)


@pytest.mark.parametrize("stored", ["pytorch_model.bin", "model.safetensors"])
def test_timms_weights_are_read_from_safetensors_only(tmp_path: Path, stored: str) -> None:
    name = "test_resnet"
    torch.manual_seed(0)
    weights = timm.create_model(name).state_dict()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    save_file(weights, tmp_path / "model.safetensors")
    code = "import sys\nfrom reid_accel.models.backbone import InputError, ModelConfig, starting_weights\n"
    code += "from reid_accel.models.weights_origin import weights_origin\n"
    code += "settings = ModelConfig(backbone=sys.argv[1], height_px=64, width_px=32)\n"
    code += "try:\n    found = starting_weights(settings)\n"
    code += (
        "    print('sum', float(sum(value.double().sum() for value in found.values())), *weights_origin(settings))\n"
    )
    code += "except InputError as error:\n    print('refused', error)\n"
    source = timm.get_pretrained_cfg(name)
    assert source is not None
    with FakeHub() as hub:
        hub.repos[str(source.hf_hub_id)] = Repo(False, {stored: (tmp_path / stored).read_bytes()})
        env = hub.environment(tmp_path / "home") | {"HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-c", code, name]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=True)
    if stored == "model.safetensors":
        assert done.stdout.startswith("sum "), done.stdout
        kept = {key: value for key, value in weights.items() if not key.startswith("fc.")}
        _, total, origin, sha256 = done.stdout.split()
        assert float(total) == float(sum(value.double().sum() for value in kept.values()))
        assert origin == f"{name}.{source.tag}", "also when timm's default has changed"
        assert sha256 == hashlib.sha256((tmp_path / stored).read_bytes()).hexdigest()
    else:
        assert f"refused the pretrained weights of {name} are not there as safetensors: give a local" in done.stdout
    assert not [request for request in hub.requests if "pytorch_model.bin" in request]


@pytest.mark.parametrize(
    "source",
    [{"url": "https://host/weights.pth"}, {"file": "weights.pth"}, {"file": "weights.bin", "hf_hub_id": "a/b"}],
)
def test_pretrained_weights_that_are_pickled_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: dict[str, str]
) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.pth")
    monkeypatch.chdir(tmp_path)
    backbone = built("test_resnet")
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name, **more: PretrainedCfg(**source))
    with pytest.raises(InputError, match=r"are not safetensors \(.*weights\.\w+\), and no other format is read"):
        load_pretrained(backbone, "test_resnet", None)


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.float8_e4m3fn])
def test_a_file_of_other_types_is_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = {key: value.clone() for key, value in built("test_resnet").state_dict().items()}
    name = next(key for key in weights if key.endswith("weight"))
    save_file(weights | {name: weights[name].to(dtype)}, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=rf"weights\.safetensors have types that cannot be used \(1 tensors, .*{name}"):
        load_pretrained(built("test_resnet"), "test_resnet", str(tmp_path / "weights.safetensors"))
    save_file(weights | {"fc.weight": torch.zeros(3, 3).to(dtype)}, tmp_path / "weights.safetensors")
    load_pretrained(built("test_resnet"), "test_resnet", str(tmp_path / "weights.safetensors"))


def test_a_file_in_half_precision_is_converted_with_a_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = built("test_resnet").state_dict()
    half = {key: value.half() if value.is_floating_point() else value.clone() for key, value in weights.items()}
    save_file(half, tmp_path / "weights.safetensors")
    target = built("test_resnet")
    load_pretrained(target, "test_resnet", str(tmp_path / "weights.safetensors"))
    assert "weights.safetensors are stored as float16 and are converted to float32" in caplog.text
    assert all(torch.equal(value, half[key].to(value.dtype)) for key, value in target.state_dict().items())


def test_a_model_without_pretrained_weights_says_so() -> None:
    name = next(name for name in timm.list_models("resnet*") if not timm.list_models(name, pretrained=True))
    with pytest.raises(InputError, match="no pretrained weights"):
        load_pretrained(torch.nn.Identity(), name, None)


@pytest.mark.parametrize("name", ["vit_small_patch16_224", "vit_small_patch14_dinov2", "convnext_tiny", "osnet_x0_25"])
def test_families_build_at_a_persons_size(name: str) -> None:
    backbone = build_backbone(ModelConfig(backbone=name, last_stride=2, height_px=256, width_px=128)).eval()
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, 256, 128)).shape == (1, backbone.head_hidden_size)


def test_patches_of_fourteen_leave_the_rest_at_bottom_and_right_unseen() -> None:
    backbone = build_backbone(
        ModelConfig(backbone="eva02_tiny_patch14_224", last_stride=2, height_px=256, width_px=128)
    ).eval()
    images = torch.randn(1, 3, 256, 128, generator=torch.Generator().manual_seed(0))
    cut = images.clone()
    cut[:, :, 252:], cut[:, :, :, 126:] = 0, 0
    seen = images.clone()
    seen[:, :, 251:] = 0
    with torch.no_grad():
        assert torch.equal(backbone(cut), backbone(images))
        assert not torch.equal(backbone(seen), backbone(images))


def resampled(position_1NC: torch.Tensor) -> torch.Tensor:
    """test_vit's position embeddings, a class token and a square grid, for the 4 x 2 patches of 64 x 32 pixels."""
    token, grid = position_1NC[:, :1], position_1NC[:, 1:]
    side = int(grid.shape[1] ** 0.5)
    square = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    small = torch.nn.functional.interpolate(square, size=(4, 2), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([token, small.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


@pytest.mark.parametrize("downloaded", [True, False], ids=["downloaded", "a local file"])
def test_position_embeddings_are_resampled_from_another_size(
    downloaded: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    source, path = timm.create_model("test_vit"), tmp_path / "vit.safetensors"  # 160 x 160, and with a classifier
    save_file(source.state_dict(), path)
    backbone = built("test_vit")
    if downloaded:
        create = timm.create_model

        def from_file(name: str, *, pretrained_cfg_overlay: dict[str, object], **settings: object) -> torch.nn.Module:
            assert settings["pretrained"]
            return create(name, pretrained_cfg_overlay=pretrained_cfg_overlay | {"file": str(path)}, **settings)

        monkeypatch.setattr(timm, "create_model", from_file)
    load_pretrained(backbone, "test_vit", None if downloaded else str(path))
    weights = source.state_dict()
    assert weights["pos_embed"].shape[1] == 101
    torch.testing.assert_close(backbone.pos_embed, resampled(weights["pos_embed"]))
    others = {key: value for key, value in backbone.state_dict().items() if key != "pos_embed"}
    assert {key for key in weights if not key.startswith("head.")} == {*others, "pos_embed"}
    assert all(torch.equal(value, weights[key]) for key, value in others.items())


def test_a_vit_of_another_kind_is_not_resampled(tmp_path: Path) -> None:
    save_file(timm.create_model("test_vit2").state_dict(), tmp_path / "vit.safetensors")
    weights = timm.create_model("vit_tiny_patch16_224").state_dict()
    save_file(weights, tmp_path / "tiny.safetensors")
    for file, words in (("vit", "missing"), ("tiny", "unexpected")):
        with pytest.raises(InputError, match=words):
            load_pretrained(built("test_vit"), "test_vit", str(tmp_path / f"{file}.safetensors"))


def test_a_norm_of_another_shape_stays_a_misfit(tmp_path: Path) -> None:
    weights = timm.create_model("test_vit", num_classes=0).state_dict()
    weights["norm.weight"] = torch.zeros(3)
    save_file(weights, tmp_path / "vit.safetensors")
    with pytest.raises(InputError, match=r"norm\.weight 3 instead of 64"):
        load_pretrained(built("test_vit"), "test_vit", str(tmp_path / "vit.safetensors"))


def test_osnet_fills_from_a_file_and_has_no_download(tmp_path: Path) -> None:
    source, target = built("osnet_x0_25"), built("osnet_x0_25")
    save_file(source.state_dict(), tmp_path / "osnet.safetensors")
    load_pretrained(target, "osnet_x0_25", str(tmp_path / "osnet.safetensors"))
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())
    with pytest.raises(InputError, match=r"OSNet has no pretrained weights.*no-pretrained.*--model\.weights-file"):
        load_pretrained(target, "osnet_x0_25", None)
    with pytest.raises(InputError, match="does not fit the backbone osnet_x0_5: of its"):
        load_pretrained(built("osnet_x0_5"), "osnet_x0_5", str(tmp_path / "osnet.safetensors"))


def test_a_learned_pooling_starts_anew_with_pretrained_weights(tmp_path: Path) -> None:
    source = built("test_resnet")
    target = build_backbone(
        ModelConfig(backbone="test_resnet", last_stride=2, height_px=64, width_px=32, pooling="gem")
    )
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    load_pretrained(target, "test_resnet", str(tmp_path / "weights.safetensors"))
    assert target.state_dict()["global_pool.exponent"].item() == 3
    assert all(torch.equal(target.state_dict()[key], value) for key, value in source.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pretrained_weights_that_are_not_finite_are_named(value: float, tmp_path: Path) -> None:
    weights = built("test_resnet").state_dict()
    weights["conv1.0.weight"][0, 0, 0, 0] = value
    save_file(weights, tmp_path / "broken.safetensors")
    settings = ModelConfig(
        backbone="test_resnet", height_px=64, width_px=32, weights_file=str(tmp_path / "broken.safetensors")
    )
    with pytest.raises(InputError, match=r"broken.safetensors: 1 of \d+ tensors hold NaN or infinity \(conv1"):
        starting_weights(settings)


def test_a_models_config_names_the_weights_that_it_started_from(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), file)
    for settings, name in (({"weights_file": str(file)}, "mine.safetensors"), ({"pretrained": False}, None)):
        model = ModelConfig(backbone="test_resnet", height_px=64, width_px=32, **settings)  # type: ignore[arg-type]
        network = ReIDModel.from_config(Config(model=model), (), 3, starting_weights(model))
        network.save_pretrained(tmp_path / "model")
        again = ReIDModel.from_pretrained(tmp_path / "model").architecture
        assert again.weights == name
        expected = hashlib.sha256(file.read_bytes()).hexdigest() if name else None
        assert again.weights_sha256 == model_facts(again)["initial_weights_sha256"] == expected


def test_stochastic_depth_drops_blocks_in_training_only() -> None:
    settings = ModelConfig(backbone="test_vit", height_px=64, width_px=32, drop_path=0.5)
    network, images = build_backbone(settings), torch.randn(4, 3, 64, 32)
    plain = build_backbone(ModelConfig(backbone="test_vit", height_px=64, width_px=32))
    plain.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert not torch.equal(network(images), network(images))
        assert torch.equal(network.eval()(images), plain.eval()(images))
    for name in ("osnet_x0_25", "vgg11"):
        with pytest.raises(InputError, match=rf"the backbone {name} has no drop path: set --model\.drop-path 0"):
            build_backbone(ModelConfig(backbone=name, height_px=64, width_px=32, drop_path=0.1))


def test_retrieval_can_compare_the_features_before_the_neck() -> None:
    networks = {}
    for feature in ("after", "before"):
        model = ModelConfig(backbone="test_resnet", neck="bn", neck_feature=feature, height_px=64, width_px=32)
        torch.manual_seed(0)
        networks[feature] = ReIDModel(Architecture(model=model, num_identities=3)).eval()
        networks[feature].neck[0].running_mean += 1.0
    images = torch.randn(2, 3, 64, 32)
    after, before = (networks[feature](images) for feature in ("after", "before"))
    assert torch.equal(before.feature_BD, networks["before"].backbone(images))
    assert torch.equal(before.feature_BD, after.metric_feature_BE)
    assert torch.equal(before.identity_logits_BPI, after.identity_logits_BPI)
    assert not torch.equal(before.feature_BD, after.feature_BD)
    with pytest.raises(InputError, match=r"model\.neck-feature must be after with model\.neck fc"):
        ModelConfig(neck="fc", neck_feature="before")
