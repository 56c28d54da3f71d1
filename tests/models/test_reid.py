import json
import sys
from copy import deepcopy
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.layers import BatchNormAct2d

from reid_accel import ReIDModel
from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.config.schema import Config, ModelConfig
from reid_accel.errors import InputError
from reid_accel.models.backbone import registering_module
from reid_accel.models.reid import Architecture, import_module, load_model, synchronized


def small(**changes: object) -> ReIDModel:
    settings = {"backbone": "test_resnet", "height_px": 64, "width_px": 32}
    rest: dict[str, object] = {"groups": MARKET_GROUPS, "num_identities": 5}
    for name, value in changes.items():
        (settings if name in {field.name for field in fields(ModelConfig)} else rest)[name] = value
    torch.manual_seed(0)
    model = ReIDModel(Architecture(model=ModelConfig(**settings), **rest))  # type: ignore[arg-type]
    for module in model.modules():  # so that batch norm is no identity
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (128, 64, 3), np.uint8)) for _ in range(3)]


def test_the_reports_network_has_553_features() -> None:
    model = small()
    outputs = model(torch.zeros(2, 3, 64, 32))
    assert outputs.feature_BD.shape == (2, 553)
    assert [logit.shape[1] for logit in outputs.attribute_logits] == [4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 9, 10]
    assert outputs.identity_logits_BPI.shape == (2, 1, 5)


def test_frozen_statistics_are_those_of_the_backbone() -> None:
    model = small(neck="bn", frozen_statistics=True)
    before = {name: value.clone() for name, value in model.named_buffers()}
    model.train()(torch.randn(4, 3, 64, 32))
    moved = {name for name, value in model.named_buffers() if not torch.equal(value, before[name])}
    assert moved == {"neck.0.running_mean", "neck.0.running_var", "neck.0.num_batches_tracked"}


def test_synchronized_statistics_leave_the_network_the_same_function() -> None:
    model = small(backbone="mobilenetv3_small_050")
    images = model.prepare(pictures())
    expected = model(images).feature_BD
    fused = [module for module in model.modules() if isinstance(module, BatchNormAct2d)]
    assert fused, "this network has activations inside its batch norms"
    others = torch.nn.SyncBatchNorm.convert_sync_batchnorm(deepcopy(model))
    assert not torch.allclose(others(images).feature_BD, expected), "the control: torch's own conversion drops them"
    converted = synchronized(model)
    assert torch.allclose(converted(images).feature_BD, expected, atol=1e-6)
    norms = [module for module in converted.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    assert all(isinstance(module, torch.nn.SyncBatchNorm) for module in norms)


def test_the_feature_is_the_reports_formula() -> None:
    model = small()
    images = model.prepare(pictures())
    with torch.no_grad():
        outputs = model(images)
        linear, norm = model.neck[0][0], model.neck[0][1]
        pooled = model.backbone.forward_features(images).mean((2, 3))
        hidden = pooled @ linear.weight.T
        hidden = (hidden - norm.running_mean) / torch.sqrt(norm.running_var + norm.eps) * norm.weight + norm.bias
        f = hidden.clamp(min=0)
        a = torch.cat([torch.softmax(f @ head.weight.T + head.bias, 1) for head in model.attribute_heads], 1)
        c = 1 / (1 + torch.exp(-(a @ model.reweighting.weight.T + model.reweighting.bias)))
    assert torch.allclose(outputs.feature_BD, torch.cat([f, c * a], 1), atol=1e-5)
    assert torch.allclose(model.attribute_scores(outputs.attribute_logits), a, atol=1e-6)


def test_without_reweighting_the_scores_join_as_they_are() -> None:
    model = small(reweight=False)
    with torch.no_grad():
        outputs = model(model.prepare(pictures()))
    assert torch.equal(outputs.feature_BD[:, 512:], model.attribute_scores(outputs.attribute_logits))


def test_logits_are_an_option() -> None:
    model = small(attribute_scores="logits", reweight=False)
    with torch.no_grad():
        outputs = model(model.prepare(pictures()))
    assert torch.equal(outputs.feature_BD[:, 512:], torch.cat(outputs.attribute_logits, 1))


def test_without_attributes_the_feature_is_the_neck() -> None:
    model = small(groups=())
    assert model.embed(pictures()).shape == (3, 512)
    with pytest.raises(InputError, match="without attributes"):
        model.attributes(pictures())


def test_a_saved_model_gives_identical_outputs(tmp_path: Path) -> None:
    model = small(metric="cosine")
    model.save_pretrained(tmp_path / "model")
    again = ReIDModel.from_pretrained(tmp_path / "model")
    assert again.architecture == model.architecture
    assert torch.equal(again.embed(pictures()), model.embed(pictures()))
    assert again.attributes(pictures()) == model.attributes(pictures())
    other = small(metric="cosine", num_identities=6)
    other.neck[0][0].weight.data.mul_(-1)
    assert not torch.equal(other.embed(pictures()), model.embed(pictures()))


def test_the_saved_config_says_how_to_feed_the_network(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())["architecture"]
    assert content["groups"][0] == {"name": "age", "values": ["young", "teenager", "adult", "old"]}
    settings = content["model"]
    assert (settings["height_px"], settings["width_px"], settings["interpolation"]) == (64, 32, "bilinear")
    assert content["software"] == version("reid_accel")
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors", ".md"}


def test_arrays_and_pictures_embed_alike() -> None:
    model = small()
    assert torch.equal(model.embed([np.asarray(p) for p in pictures()]), model.embed(pictures()))


def test_cosine_embeddings_have_unit_length() -> None:
    assert torch.allclose(small(metric="cosine").embed(pictures()).norm(dim=1), torch.ones(3))
    assert not torch.allclose(small().embed(pictures()).norm(dim=1), torch.ones(3))


def test_attributes_are_words() -> None:
    said = small().attributes(pictures())
    assert len(said) == 3
    for answer in said:
        assert list(answer) == [group.name for group in MARKET_GROUPS]
        assert all(answer[group.name] in group.values for group in MARKET_GROUPS)


@pytest.mark.parametrize("array", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((3, 8, 8), np.uint8)])
def test_wrong_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(InputError, match="uint8, H x W x 3"):
        small().embed([array])


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model folder"):
        load_model(tmp_path / "no" / "where")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"lacks model\.safetensors"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "name", ["runs/quickstrt/model", "runs/quickstrt", "kept/modle", "./model", "../model", "~/model", "user/name/"]
)
def test_a_mistyped_path_is_not_looked_for_on_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask_the_hub(name: str) -> None:
        raise AssertionError("the hub is asked")

    monkeypatch.setattr(ReIDModel, "from_pretrained", ask_the_hub)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").mkdir()
    with pytest.raises(InputError, match="there is no model folder"):
        load_model(name)


def test_a_name_that_is_neither_a_folder_nor_on_the_hub_says_both() -> None:
    with pytest.raises(InputError, match=r"there is no folder no-user/no-model, and no hub repository .* \(.+\)"):
        load_model("no-user/no-model")


@pytest.mark.parametrize("damage", ["missing", "of another shape", "unexpected"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, damage: str) -> None:
    small().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    changed = weights.pop("neck.0.0.weight")
    if damage == "of another shape":
        weights["neck.0.0.weight"] = changed[:, :3].contiguous()
    elif damage == "unexpected":
        weights |= {"neck.0.0.weight": changed, "neck.weight": changed.clone()}
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"do not match its config.json.*neck\."):
        load_model(tmp_path)
    with pytest.raises(InputError, match=r"do not match its config.json.*neck\."):
        ReIDModel.from_pretrained(tmp_path)


def test_a_batch_norm_neck_compares_pairs_before_it_and_people_after_it() -> None:
    model = small(neck="bn", num_identities=5)
    images = model.prepare(pictures())
    with torch.no_grad():
        outputs = model(images)
        pooled = model.backbone.forward_features(images).mean((2, 3))
        norm = model.neck[0]
        f = (pooled - norm.running_mean) / torch.sqrt(norm.running_var + norm.eps) * norm.weight
    assert torch.allclose(outputs.metric_feature_BE, pooled, atol=1e-5)
    assert torch.allclose(outputs.feature_BD[:, : pooled.shape[1]], f, atol=1e-4)
    assert outputs.feature_BD.shape[1] == pooled.shape[1] + 41 == model.feature_size
    assert not norm.bias.requires_grad
    assert model.identity_classifier[0].bias is None
    expected = outputs.feature_BD @ model.identity_classifier[0].weight.T
    assert torch.allclose(outputs.identity_logits_BPI[:, 0], expected, atol=1e-5)


def test_a_margin_classifier_gives_cosines() -> None:
    model = small(classifier="arcface", num_identities=5)
    with torch.no_grad():
        outputs = model(model.prepare(pictures()))
        weight = model.identity_classifier[0].weight
        expected = torch.cosine_similarity(outputs.feature_BD[:, None], weight[None], dim=2)
    assert torch.allclose(outputs.identity_logits_BPI[:, 0], expected, atol=1e-5)


def test_the_other_parts_come_back_from_a_saved_model(tmp_path: Path) -> None:
    changes = {"neck": "bn", "pooling": "gem", "classifier": "cosface", "keeps_centers": True}
    model = small(**changes)
    model.center_IE.fill_(2.0)
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path).eval()
    assert again.architecture == model.architecture
    assert again.center_IE.shape == (5, again.backbone.head_hidden_size)
    assert torch.equal(again.embed(pictures()), model.embed(pictures()))


@pytest.mark.parametrize(("neck", "classifier"), [("bn", "linear"), ("fc", "linear"), ("bn", "cosface")])
def test_each_stripe_has_a_neck_and_a_classifier_of_its_own(neck: str, classifier: str) -> None:
    model = small(neck=neck, classifier=classifier, stripes=(1, 2), neck_units=16)
    images = model.prepare(pictures())
    with torch.no_grad():
        outputs = model(images)
        maps = model.backbone.forward_features(images)
        parts = [part.mean((2, 3)) for part in (maps, maps[:, :, :1], maps[:, :, 1:])]
        necks = [layer(part) for layer, part in zip(model.neck, parts, strict=True)]
        reweighted = outputs.feature_BD[:, -41:]
        seen = [torch.cat([part, reweighted], 1) for part in necks]
        logits = [layer(part) for layer, part in zip(model.identity_classifier, seen, strict=True)]
        if classifier == "cosface":
            weights = [layer.weight for layer in model.identity_classifier]
            pairs = zip(seen, weights, strict=True)
            logits = [torch.cosine_similarity(part[:, None], weight[None], dim=2) for part, weight in pairs]
    assert maps.shape[2] == 2, "a stripe is a row of the map"
    assert outputs.feature_BD.shape[1] == model.feature_size == 3 * necks[0].shape[1] + 41
    assert torch.allclose(outputs.feature_BD[:, :-41], torch.cat(necks, 1), atol=1e-5)
    assert torch.allclose(outputs.identity_logits_BPI, torch.stack(logits, 1), atol=1e-5)
    assert not torch.allclose(logits[1], logits[2], atol=1e-3)
    assert torch.allclose(
        outputs.metric_feature_BE, torch.cat(parts, 1) if neck == "bn" else outputs.feature_BD, atol=1e-5
    )


def test_stripes_come_back_from_a_saved_model(tmp_path: Path) -> None:
    model = small(neck="bn", pooling="gem", stripes=(1, 2), keeps_centers=True)
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path).eval()
    assert again.architecture == model.architecture
    assert torch.equal(again.embed(pictures()), model.embed(pictures()))
    assert model.center_IE.shape == (5, 3 * model.backbone.head_hidden_size)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("nek", "fc", r"unknown fields \(model\.nek\)"),
        ("neck", "conv", r"model\.neck must be one of \('fc', 'bn', 'linear'\), got 'conv'"),
        ("height_px", 65, "model.height-px must be a positive multiple of 32"),
    ],
)
def test_a_config_of_another_version_is_refused(tmp_path: Path, field: str, value: object, sentence: str) -> None:
    small().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["architecture"]["model"][field] = value
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=sentence):
        load_model(tmp_path)


OWN_BACKBONE = """
import timm
import torch

class Squares(torch.nn.Module):
    head_hidden_size = 3
    def forward(self, images):
        return images.square().mean((2, 3))

@timm.models.register_model
def squares(pretrained=False, **settings):
    return Squares()
"""


def test_an_own_backbone_is_loaded_with_the_module_that_registers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_squares.py").write_text(OWN_BACKBONE)
    monkeypatch.chdir(tmp_path)
    import_module("my_squares")
    model = ReIDModel.from_config(Config(model=ModelConfig(backbone="squares", pretrained=False)), (), 5)
    assert model.architecture.backbone_module == "my_squares"
    model.save_pretrained(tmp_path / "model")

    monkeypatch.delitem(timm.models._registry._model_entrypoints, "squares")
    monkeypatch.delitem(sys.modules, "my_squares")
    with pytest.raises(InputError, match=r"registered with timm by the module my_squares, .*--model-module my_squares"):
        load_model(tmp_path / "model")
    loaded = load_model(tmp_path / "model", "my_squares").eval()
    assert torch.equal(loaded.embed(pictures()), model.embed(pictures()))
    with pytest.raises(InputError, match="there is no module nowhere"):
        load_model(tmp_path / "model", "nowhere")


def test_timms_and_our_own_backbones_need_no_module() -> None:
    for name in ("resnet50", "resnet50.tv_in1k", "osnet_x0_25", "resnet18_ibn_a"):
        assert registering_module(name) is None
