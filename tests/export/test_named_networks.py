"""What another library builds from a name alone: its weights by timm's own network and by our import of torchreid's."""

from typing import Any

import pytest
import timm
import torch
from torch.nn import functional as F

from reid_accel.attributes.vocabulary import MARKET_GROUPS
from reid_accel.config.schema import ModelConfig
from reid_accel.errors import InputError
from reid_accel.export.named_networks import named_network
from reid_accel.models.architecture import Architecture
from reid_accel.models.reid import ReIDModel
from reid_accel.weights.schemes import recognize


def network(backbone: str, side: int | None = None, groups: Any = (), **settings: Any) -> ReIDModel:
    """With batch norms that do something."""
    torch.manual_seed(0)
    height, width = (side, side) if side else (64, 32)
    config = ModelConfig(backbone=backbone, pretrained=False, height_px=height, width_px=width, **settings)
    model = ReIDModel(Architecture(model=config, groups=groups, num_identities=2))
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            torch.nn.init.uniform_(module.weight, 0.5, 2)
    return model.eval()


def images(model: ReIDModel) -> torch.Tensor:
    return torch.randn(4, 3, model.architecture.height_px, model.architecture.width_px)


@pytest.mark.parametrize(
    ("backbone", "settings"),
    [
        ("test_resnet", {"neck": "bn", "neck_feature": "before"}),
        ("test_convnext", {"neck": "bn"}),
        ("test_vit", {"neck": "bn", "side": 160}),
        ("test_efficientnet", {"neck": "linear", "neck_feature": "before"}),
    ],
)
def test_timms_network_of_the_name_gives_the_models_features(backbone: str, settings: dict[str, Any]) -> None:
    model = network(backbone, **settings)
    pixels = images(model)
    name, weights = named_network(model, pixels)
    assert name == f"timm:{backbone}"
    theirs = timm.create_model(backbone, pretrained=False, num_classes=0)
    theirs.load_state_dict(weights)
    with torch.no_grad():
        theirs_BD, ours_BD = theirs.eval()(pixels), model(pixels).feature_BD
        assert F.cosine_similarity(theirs_BD, ours_BD).min() > 0.99999
        theirs.load_state_dict({**weights, **dict(model.backbone.state_dict())})
        without_neck = F.cosine_similarity(theirs(pixels), ours_BD).min()
    assert without_neck < 0.999 or settings.get("neck_feature") == "before", "the control: the batch norm matters"


@pytest.mark.parametrize("backbone", ["osnet_x0_25", "osnet_x0_5"])
def test_an_osnet_under_torchreids_names_is_recognized_as_torchreids(backbone: str) -> None:
    model = network(backbone)
    name, weights = named_network(model, images(model))
    assert name == backbone
    found = recognize(weights, "export")
    assert found.scheme == "torchreid's OSNet"
    assert found.model["backbone"] == backbone
    again = network(backbone)
    torch.nn.init.zeros_(again.neck[0][0].weight)
    again.load_state_dict({**again.state_dict(), **found.tensors(weights)})
    pixels = images(model)
    assert torch.allclose(again(pixels).feature_BD, model(pixels).feature_BD, atol=1e-6)


@pytest.mark.parametrize(
    ("backbone", "settings", "sentence"),
    [
        ("test_resnet", {"neck": "bn"}, "can't be folded"),
        ("test_resnet", {"neck": "fc"}, r"a layer \(--model.neck fc\) follows the pooling"),
        ("test_resnet", {"neck": "bn", "groups": MARKET_GROUPS}, "attribute scores are part of its feature"),
        ("test_resnet", {"neck": "bn", "neck_feature": "before", "last_stride": 1}, "its last stride is 1"),
        ("test_resnet", {"neck": "bn", "neck_feature": "before", "pooling": "gem"}, "its pooling is gem"),
        ("test_resnet", {"neck": "bn", "stripes": (1, 2)}, "it pools stripes"),
        ("resnet18_ibn_a", {"neck": "bn", "neck_feature": "before"}, "resnet18_ibn_a is not timm's"),
        ("test_vit", {"neck": "bn"}, "for its own input size"),
        ("osnet_x0_25", {"neck": "bn"}, "no fully connected layer of 512 units"),
        ("osnet_ain_x0_25", {}, "osnet_ain_x0_25 is not timm's"),
    ],
)
def test_what_no_name_describes_is_refused_with_the_reason(
    backbone: str, settings: dict[str, Any], sentence: str
) -> None:
    model = network(backbone, **settings)
    with pytest.raises(InputError, match=sentence):
        named_network(model, images(model))
