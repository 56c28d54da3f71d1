"""The camera embedding against the formula of He et al. 2021: tokens + positions + factor x the camera's vector."""

import json
import shutil
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.launching import TINY, read_json
from helpers.made_sets import make_market
from helpers.same_run import assert_same_run
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from reid_accel import ReIDModel
from reid_accel.config.schema import ModelConfig, OptimConfig
from reid_accel.errors import InputError
from reid_accel.models.architecture import Architecture, Cameras
from reid_accel.models.backbone import build_backbone
from reid_accel.models.camera_embedding import cameras_to_embed
from reid_accel.models.reid import load_model
from reid_accel.score import main as score
from reid_accel.train import main as train
from reid_accel.training.optim import build_optimizer

NUMBERS = (1, 3, 12)


def network(factor: float = 3.0, numbers: Sequence[int] = NUMBERS, **settings: object) -> ReIDModel:
    small = {"backbone": "test_vit", "height_px": 64, "width_px": 32, "neck": "bn", "neck_feature": "before"}
    model = ModelConfig(**{**small, **settings}, camera_embedding=factor)  # type: ignore[arg-type]
    torch.manual_seed(0)
    cameras = Cameras(numbers=tuple(numbers), data_set="made")
    return ReIDModel(Architecture(model=model, num_identities=3, cameras=cameras)).eval()


def images(number: int = 4) -> Tensor:
    return torch.randn(number, 3, 64, 32, generator=torch.Generator().manual_seed(1))


def by_the_formula(model: ReIDModel, image_13HW: Tensor, vector_C: Tensor) -> Tensor:
    """The feature of one image, token by token, without timm's forward pass."""
    vit = model.backbone
    assert isinstance(vit, VisionTransformer)
    patches_TC = vit.patch_embed(image_13HW).reshape(-1, vit.embed_dim)
    tokens_TC = torch.cat([vit.cls_token[0], patches_TC]) + vit.pos_embed[0]
    tokens_TC = torch.stack([token_C + 3.0 * vector_C for token_C in tokens_TC])
    for block in vit.blocks:
        tokens_TC = block(tokens_TC[None])[0]
    return vit.fc_norm(vit.norm(tokens_TC)[0])


@torch.no_grad()
def test_each_token_gets_its_cameras_vector_and_other_cameras_the_mean() -> None:
    model = network()
    assert model.camera_embedding is not None
    weight_KC = model.camera_embedding.weight
    mean_C = sum(weight_KC) / len(NUMBERS)
    given = torch.tensor([12, -1, 1, 2])
    vectors = [weight_KC[2], mean_C, weight_KC[0], mean_C]
    features = model(images(), given).feature_BD
    for row, vector_C in enumerate(vectors):
        expected = by_the_formula(model, images()[row : row + 1], vector_C)
        torch.testing.assert_close(features[row], expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(features[0], by_the_formula(model, images()[:1], weight_KC[1]), atol=1e-3), "the control"


@torch.no_grad()
def test_without_cameras_all_are_unknown() -> None:
    model = network()
    unknown = model(images(), torch.full((4,), -1)).feature_BD
    assert torch.equal(model(images()).feature_BD, unknown)
    assert model.camera_embedding is not None
    known = model(images(), torch.ones(4, dtype=torch.int64)).feature_BD
    assert not torch.allclose(known, unknown, atol=1e-3)
    model.camera_embedding.is_known_set = False
    assert torch.equal(model(images(), torch.ones(4, dtype=torch.int64)).feature_BD, unknown)


@torch.no_grad()
def test_off_is_the_same_network_bit_for_bit() -> None:
    without, with_ = network(0.0), network()
    assert without.camera_embedding is None
    ours, theirs = without.state_dict(), with_.state_dict()
    assert ours.keys() == theirs.keys() - {"camera_embedding.weight"}
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items()), "the other weights are the same"
    assert torch.equal(without(images(), torch.ones(4)).feature_BD, without(images()).feature_BD)
    assert with_.camera_embedding is not None
    zero = deepcopy(with_)
    zero.camera_embedding.weight.zero_()  # type: ignore[union-attr]
    assert torch.equal(zero(images(), torch.tensor([1, 3, 12, 5])).feature_BD, without(images()).feature_BD)


@pytest.mark.parametrize("name", ["resnet10t", "osnet_x0_25", "swin_tiny_patch4_window7_224", "eva02_tiny_patch14_224"])
def test_other_backbones_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"model\.camera-embedding is for ViTs .*{name} is none.*camera-embedding 0"):
        build_backbone(ModelConfig(backbone=name, height_px=224, width_px=224, camera_embedding=3.0))


def test_a_training_set_needs_two_known_cameras() -> None:
    assert cameras_to_embed(3.0, np.array([5, -1, 2, 5]), "made") == Cameras(numbers=(2, 5), data_set="made")
    assert cameras_to_embed(0.0, np.array([5, -1, 2, 5]), "made") == Cameras()
    with pytest.raises(
        InputError, match=r"two or more known cameras, these have 1 \(5\): set --model.camera-embedding"
    ):
        cameras_to_embed(3.0, np.array([5, -1]), "made")


def test_it_decays_as_in_transreid_and_has_the_rate_of_the_first_layer() -> None:
    model = network()
    optim = OptimConfig(weight_decay=0.1, learning_rate=1.0, layer_decay=0.5, backbone_rate=1.0)
    groups = build_optimizer(model, optim).param_groups
    assert model.camera_embedding is not None
    of_cameras, of_patches = (
        next(group for group in groups if any(each is parameter for each in group["params"]))
        for parameter in (model.camera_embedding.weight, model.backbone.patch_embed.proj.weight)
    )
    assert of_cameras is of_patches
    assert of_cameras["weight_decay"] == 0.1


def test_a_frozen_backbone_freezes_it_too() -> None:
    model = network().train()
    model.freeze_backbone(True)
    model(images(), torch.tensor([1, 3, 12, 5])).identity_logits_BPI.sum().backward()
    assert model.camera_embedding is not None
    assert model.camera_embedding.weight.grad is None
    model.freeze_backbone(False)
    model(images(), torch.tensor([1, 3, 12, 5])).identity_logits_BPI.square().sum().backward()
    assert model.camera_embedding.weight.grad is not None


def test_a_saved_model_knows_its_cameras(tmp_path: Path) -> None:
    model = network()
    model.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())["architecture"]
    assert content["cameras"] == {"numbers": [1, 3, 12], "data_set": "made"}
    again = ReIDModel.from_pretrained(tmp_path)
    pictures = [np.random.default_rng(row).integers(0, 256, (64, 32, 3), np.uint8) for row in range(3)]
    for cameras in (None, [12, 1, 7]):
        assert torch.equal(again.embed(pictures, cameras=cameras), model.embed(pictures, cameras=cameras))
    assert not torch.equal(again.embed(pictures), again.embed(pictures, cameras=[12, 1, 7]))
    with pytest.raises(InputError, match="one number per image: there are 3 images"):
        again.embed(pictures, cameras=[1])


SIE = (
    *TINY, "--model.backbone=test_vit", "--model.camera-embedding=3", "--data.name=market-layout",
    "--data.validation-share=0.2", "--train.batch-size=8", "--run.deterministic", "--train.ema-decay=0.9",
    "--train.epochs=2", "--run.log-every-steps=1",
)  # fmt: skip


def test_training_learns_it_resumes_and_scores_by_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_market(tmp_path / "market")
    data = ["--data.root=market", "--data.cache-dir=cache"]
    train([*SIE, *data, "--run.dir=whole"])
    shutil.copytree("whole", "parts")
    shutil.rmtree(max(Path("parts/checkpoints").glob("step-*")))
    train([*SIE, *data, "--run.dir=parts", "--run.resume=auto"])
    assert_same_run(tmp_path, "whole", "parts")
    model = load_model("whole/model")
    assert model.architecture.cameras == Cameras(numbers=(1, 2), data_set="market-layout market")
    weights = [
        load_file(max(Path("whole/checkpoints").glob("step-*")) / f"{name}.safetensors") for name in ("model", "ema")
    ]
    assert not torch.equal(weights[0]["camera_embedding.weight"], weights[1]["camera_embedding.weight"]), (
        "both are kept"
    )

    def scores(folder: str, *flags: str) -> list[float]:
        score(["--model=whole/model", *data[1:], f"--dir={folder}", "--data.name=market-layout", *flags])
        return [entry["mAP"] for entry in read_json(Path(folder) / "report.json")["retrieval"]]

    stamps = [entry["stamp"] for entry in read_json(Path("whole/report.json"))["retrieval"]]
    assert all(stamp.endswith(" cameras=given") for stamp in stamps)
    in_training = [entry["mAP"] for entry in read_json(Path("whole/report.json"))["retrieval"][:1]]
    assert scores("same", "--data.root=market")[:1] == in_training
    Path("elsewhere").mkdir()
    Path("market").rename("elsewhere/other")
    capsys.readouterr()
    of_others = scores("others", "--data.root=elsewhere/other")
    assert (
        "embeddings of the cameras of market-layout market; all cameras of market-layout other get"
        in capsys.readouterr().out
    )
    assert scores("override", "--data.root=elsewhere/other", "--cameras=same")[:1] == in_training
    assert scores("mean", "--data.root=elsewhere/other", "--cameras=other") == of_others
    assert not any("cameras" in entry["stamp"] for entry in read_json(Path("mean/report.json"))["retrieval"])
    assert scores("saved", "--data.root=elsewhere/other", "--cameras=same", "--features=features")[:1] == in_training
    score(["--features=features", "--dir=again"])
    stamped = [read_json(Path(name) / "report.json")["retrieval"][0]["stamp"] for name in ("saved", "again")]
    assert stamped == [stamps[0]] * 2
